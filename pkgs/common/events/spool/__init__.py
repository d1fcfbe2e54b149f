"""The disk spool between a service and the Auth Service: durable first, delivered later, in order, once.

A spool is a directory, which `files` reads and writes. `emitter` takes events and puts them on disk,
`delivery` hands over what is there, in the same order. A crash at any moment loses no event that `emit`
returned for; it may deliver the last batches twice, and the receiver ignores a known uid. A crash of the
process alone loses no event that `post` returned for.

When full, or when the disk is, `emit` refuses: what cannot be audited is not done.
"""
