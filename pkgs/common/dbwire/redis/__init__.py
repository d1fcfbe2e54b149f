"""RESP, the protocol of Redis, versions 2 and 3: requests of clients and replies of servers, sans-IO.

Requests are read more strictly than servers do, so that nothing means one thing here and another there.
Source: the Redis documentation, "Redis serialization protocol specification".
"""
