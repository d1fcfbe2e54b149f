"""`tsh bench`."""
