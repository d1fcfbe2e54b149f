"""How SSH writes keys and certificates down: the wire format, key blobs and lines, certificates, extensions.

Promises that hostile bytes give a typed value or `WireError` and nothing else, and that nothing here is
believed: a parsed certificate is unverified until `pki.sshcert` has checked it. `wire` imports nothing heavy.
Must not know the cluster, its trust or the time.
"""
