"""Everything that is signed: the authorities, the pipeline for users, joining and renewing hosts.

Promises that no certificate leaves before it was read back with the eyes of a stranger and its audit event
is durable, that a renewed one never says more than the old, and that nobody is given another's name. Must
not know how a user was proved (`accounts` did that) nor what a client wants the certificate for.
"""
