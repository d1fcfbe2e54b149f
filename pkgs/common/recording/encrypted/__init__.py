"""Recordings that only the Auth Service can read: a container around the recording of the room above.

Container, version 2 of the file format (also in docs/recordings.md)
--------------------------------------------------------------------
    file    = magic(8) version(2) zero(2) header-crc(4) record*     as every recording, version = 2
    record  = head(16) body
    head    = marker(4) type(1) zero(3) size(4) head-crc(4)
    type 1  : body = msgpack [recipients, envelope], the key; comes first, and again now and then
    type 2  : body = nonce(12) AES-256-GCM of bytes of a version-1 recording, the head as associated data

The envelope is a complete age file (age-encryption.org/v1, X25519), made for the cluster's public keys, that
holds msgpack [session id, key]. What the records of type 2 hold, one behind the other, is a recording of
version 1, byte for byte: its frames, chain and signed end are checked by what checks them anyway, so order
and completeness are not the container's business. A file cut at any byte opens up to its last whole record.

Must not know where the private keys are, nor who may play what.
"""
