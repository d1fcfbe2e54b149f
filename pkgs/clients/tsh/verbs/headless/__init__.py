"""The verbs on headless logins."""
