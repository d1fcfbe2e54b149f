"""How much of the host sessions may take, so that none takes it from another: processes of one user, memory
and processes of one connection, and who goes first when the host's memory runs out.

Everything here is best effort of the host: what it cannot bound is said once, and goes on unbounded.
"""
