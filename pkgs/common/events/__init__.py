"""Audit events: their names and codes, making and bounding them, the hash chain that shows tampering, and
the disk spool that keeps them until the Auth Service has them.

Must not know who stores events or who searches them.
"""
