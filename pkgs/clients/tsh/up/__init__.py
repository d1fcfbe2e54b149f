"""`tsh up`: several databases at local addresses that stay the same, for as long as one process runs.

Each of them opens, fails and recovers alone. What a tunnel is, `databases.port` says; here is only when there
is one, with which certificate, and what is told of it.
"""
