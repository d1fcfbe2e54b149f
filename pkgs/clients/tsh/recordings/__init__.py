"""Recordings for a person: listing them, fetching one or opening a file, playing it on a terminal.

Promises that the terminal is itself again after a replay, whatever the recorded session did to it. Must not
know how recordings are written or kept.
"""
