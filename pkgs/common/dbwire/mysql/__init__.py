"""Messages of MySQL's and MariaDB's client protocol: parse and build, sans-IO, no policy.

Parsers are total: any bytes give a value or a ProtocolError. Numbers are little-endian throughout.
Source: the MySQL source documentation, "Client/Server Protocol", and MariaDB's pages of the same name.
"""
