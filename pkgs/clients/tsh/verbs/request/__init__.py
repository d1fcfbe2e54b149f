"""Verbs of `tsh request`."""
