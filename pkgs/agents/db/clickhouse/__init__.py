"""ClickHouse over HTTP: each connection is a session, each request a statement.

A request is put together anew from what was understood of it, without its names and passwords and with the
user that was decided on. Bodies pass in parts.
"""
