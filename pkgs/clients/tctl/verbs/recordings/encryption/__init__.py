"""The verbs on the keys that recordings are encrypted for. Must not know a private one."""
