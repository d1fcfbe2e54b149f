"""Verbs of `tctl requests`."""
