"""The predicate language of rules, label expressions and queries: text in, a typed test out.

Promises linear time, bounded size, and errors that point at the character. Must not know what a role is:
whoever uses it brings the names and functions that may be used (a `Vocabulary`).
"""
