"""TLS and ALPN listening, dialling, byte relays, the signed PROXY header, limits per source.

Everything here faces the network before anybody has proved who they are. So every wait has a deadline,
every buffer a size, and one slow or hostile peer costs the others nothing. Knows bytes, sockets and
certificates as far as TLS needs them; knows no service, no role and no request.
"""
