"""The service's side of a user's connection, wherever SSH is ended: by an agent on the server, or by a proxy
in front of one that has no agent.

What both decide, record and audit alike is here, and decided the same. Must not know which of the two it
works for, nor how what was allowed is done.
"""
