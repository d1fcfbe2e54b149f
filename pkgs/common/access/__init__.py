"""The access decision: labels, traits, roles, locks. Pure functions over values; deny when unsure."""
