"""Audit events: their names and codes, making them, and the hash chain that shows tampering."""
