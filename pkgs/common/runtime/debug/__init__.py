"""What a running process tells about itself: readiness, metrics, profiles, and the service that serves them.

Everything is asked for over a unix socket that only the owner can open, and nothing told holds a secret.
Promises that looking costs the process nothing while nobody looks. Must not know what the service does:
rooms put their components and numbers in by name.
"""
