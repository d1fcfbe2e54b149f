"""The one adapter around the SSH library: transports, certificates on both sides, algorithms, limits.

No other room imports paramiko, and no paramiko type leaves this one. A server connection is one process:
`spawner` forks it from a small pre-imported parent, `serve` speaks SSH in it, and it holds no key of the
cluster: host signatures, the check of the user's certificate and every decision come from the service's
main process (`pool`, `monitor`) over a small ordered protocol (`messages`). Must not know what a session,
a node or a role is.
"""
