"""The verbs on recorded sessions, one per file: `recordings ls`, `recordings export`, `play`."""
