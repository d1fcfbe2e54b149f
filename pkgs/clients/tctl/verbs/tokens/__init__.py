"""The verbs on join tokens, one per file. Must not know how a host joins, only how it is told to."""
