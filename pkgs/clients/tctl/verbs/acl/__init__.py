"""The verbs on access lists, one per file; `grants` turns flags into a list and the roles made for it.

Promises that what is printed says what was done, step by step. Must not decide: the Auth Service does.
"""
