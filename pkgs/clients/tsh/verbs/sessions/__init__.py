"""`tsh sessions`."""
