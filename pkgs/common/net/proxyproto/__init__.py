"""The PROXY protocol: the bytes of its header, and our signed form of it.

Promises that an address is believed only if a Proxy of this cluster signed it, for this receiver, just now;
the plain form, for load balancers, only where the administrator switched it on. Must not know sockets.
"""
