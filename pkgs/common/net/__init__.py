"""TLS and ALPN listening, dialling, byte relays, the signed PROXY header, limits per source."""
