"""The verbs on the members of a list."""
