"""`tsh db`."""
