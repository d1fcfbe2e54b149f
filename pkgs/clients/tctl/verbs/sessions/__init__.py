"""`tctl sessions`."""
