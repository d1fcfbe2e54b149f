"""Choosing one of many lines at the terminal: type to filter, arrows to move, enter to take.

Promises that the terminal is as before on every way out, and that no line can act on it. Must not know what
the lines stand for.
"""
