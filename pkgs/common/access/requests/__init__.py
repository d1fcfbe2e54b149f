"""Access requests: who may ask for what, who decides, when it is decided, and what it then gives.

Promises pure functions over roles, traits and requests, and a no wherever the roles leave a doubt: a pattern
that could be read in two ways grants by the narrower and refuses by the wider reading. The language of
conditions lives in `access/contexts`. Must not know storage, callers or certificates.
"""
