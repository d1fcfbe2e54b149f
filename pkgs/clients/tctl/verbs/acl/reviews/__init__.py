"""The verbs on the reviews of a list."""
