"""Bounds of a file of policy tests."""

MAX_USERS = 10_000
MAX_DOCUMENTS = 50_000
"""Roles, users, resources and locks together, in files and inline."""
MAX_TESTS = 20_000
MAX_CASES = 100_000
"""Users times actions times resources, over the tests of one file."""
MAX_PATHS = 200
"""Files, folders and patterns that one file names."""
MAX_TEXT = 500
"""Characters of a name or of an expected text."""
