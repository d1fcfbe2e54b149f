"""Access requests: made, shown, reviewed, decided, pruned. Each step is in the audit log before its answer.

What may be asked for and when a request is decided is worked out in `common/access/requests`; this room finds
the users, roles and resources, and keeps the requests. Must not know certificates: what a request gives is
read by `issuing`, from storage, each time.
"""
