"""Every size of the codec."""

PACKET_MAX = 0xFFFFFF
"""Bytes of payload in one packet; one of exactly this size is continued by the next."""
LOGIN_PACKET_MAX = 64 * 1024
"""Most bytes of a packet of the login: connection attributes may take them."""
LOGIN_PACKETS_MAX = 8
"""Most packets that a server may send before its login has come to an end."""
PARAMETERS_MAX = 65_535
"""Of a prepared statement: its count has 16 bits."""
