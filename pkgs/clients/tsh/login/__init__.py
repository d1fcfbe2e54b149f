"""Logging in and signing up: the questions to the person, the proxy's web API, new keys into the profile.

Promises that a password is never echoed, logged or kept, and that the proxy's web certificate is verified
unless the person said otherwise. Must not know servers or sessions: what a log-in is for is not its matter.
"""
