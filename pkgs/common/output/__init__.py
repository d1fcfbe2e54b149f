"""What command lines print: tables, JSON, YAML, progress; text from outside is made inert here."""
