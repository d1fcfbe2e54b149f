"""Messages of the databases' own protocols, one folder each: parse and build, sans-IO, no policy.

The Database Service, the proxy and the tests use them; they know nothing of users, roles or audit.
"""
