"""Calls and streams over ZeroMQ inside mutual TLS, and the guard in front of every ROUTER.

Promises that a handler runs only for a caller it declared, that every call has a deadline, and that no
peer can make memory grow past the limits. Must not know what the calls mean.
"""
