"""The verbs on recordings, one per file; they share tsh's code. Must not know how recordings are kept."""
