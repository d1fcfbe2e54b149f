"""The cluster's resources, typed, over the storage: read from memory, written durably, made at first start.

Promises that a read sees every acknowledged write and that a first start leaves either a whole cluster or
none. Must not know who asks: permissions, audit and the calls are the business of the rooms above.
"""
