"""The host's own records of who is and was logged in: `utmp`, `wtmp`, `btmp` and `lastlog`, where they are
present. `entries` reads and makes their bytes, `book` keeps the files. No file is ever made.
"""
