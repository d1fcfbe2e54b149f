"""What is kept of a database session: its audit events, its recording, and how much of what was said."""
