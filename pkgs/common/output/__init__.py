"""What command lines print and how they read their arguments: tables, JSON, YAML, errors, progress.

Everything that came from outside (names, labels, messages of a peer) passes `sanitize.inert` before it
reaches a terminal. Imports here are lazy: `tsh version` pays for none of it. Must not know any service.
"""
