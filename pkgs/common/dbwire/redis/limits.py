"""Every size of the codec."""

HEADER_MAX = 32
"""Bytes of a line that announces a number of arguments or a length."""
INLINE_MAX = 64 * 1024
"""Bytes of a command that is a line of text: the server's own limit."""
ARGUMENTS_MAX = 1 << 31
LENGTH_MAX = 1 << 40
"""Announced numbers above these are nonsense; what is announced is never held."""
LINE_MAX = 64 * 1024
"""Bytes of a reply that is a line: text, error, number."""
DEPTH_MAX = 64
"""Of replies within replies."""
