"""The verbs on resources of any kind, one per file, and how kinds print as tables.

Promises that what `get` prints `create` takes. Must not know what a kind means: the Auth Service validates.
"""
