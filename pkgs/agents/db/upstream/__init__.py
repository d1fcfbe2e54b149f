"""The databases that this agent serves: which they are, how they are reached, and whether they are well."""
