"""The calls on resources: get, list, put, delete, tokens, heartbeats, and watching changes.

Promises that nothing is stored that this cluster cannot have, that a reader is shown only what it may see and
never a private key it did not ask for as the administrator, and that every change is audited. Must not
check passwords nor sign: of the rooms beside it, it uses only their rules for names.
"""
