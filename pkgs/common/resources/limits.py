"""How large documents and their fields may be."""

from __future__ import annotations

MAX_TEXT_BYTES = 32 * 1024 * 1024
"""All documents of one input together."""
MAX_RESOURCE_BYTES = 1_000_000
"""One document: one resource, or one configuration file."""
MAX_DOCUMENTS = 50_000
MAX_DEPTH = 64
MAX_NODES = 200_000
"""Nodes visited in one document, each alias counted as often as it is used."""

MAX_NAME_LENGTH = 255
MAX_LABELS = 1000
MAX_LABEL_LENGTH = 1000
MAX_DESCRIPTION = 16 * 1024
"""Characters of a description."""
MAX_MESSAGE = 16 * 1024
"""Characters of what is shown to people: why they are locked out, what to say in a request."""

MAX_DIFFERENCES = 60
"""Changed paths told of one change; with the marks they fit into one audit event."""
MAX_DIFFERENCE_CHARS = 256
"""Of one value before or after."""
