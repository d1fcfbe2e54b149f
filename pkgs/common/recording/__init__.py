"""Session recordings: a crash-safe framed file; writing, reading, playing, exporting."""
