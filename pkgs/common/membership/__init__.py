"""How a service becomes and stays a member of the cluster: join, stored identity, renewal, cache, heartbeat.

Shared by the Proxy Service and every agent (see docs/adr). Must not know any user protocol.
"""
