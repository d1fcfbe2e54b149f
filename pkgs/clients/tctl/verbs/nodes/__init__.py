"""The verbs on SSH servers, one per file. Must not know how a server is reached."""
