"""`tctl db`."""
