"""The version every tool shows; pyproject.toml holds the same and a test compares them."""

from typing import Final

VERSION: Final = "0.1.0"
