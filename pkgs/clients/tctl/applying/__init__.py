"""Configuration kept as files: read from a folder, compared with the cluster, carried out step by step.

Promises that nothing is written before everything was checked, that every write is conditional on the state
that was compared, and that a failure says what was done and what was not. Must not judge what a resource
means: the Auth Service does, in dry runs.
"""
