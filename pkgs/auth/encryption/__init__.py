"""The keys of encrypted recordings: the ring of private keys, their rotation, and the calls about it.

Promises that a recording once readable stays so: no key is ever dropped that a stored recording needs. Must
not know where recordings are, nor who may play them.
"""
