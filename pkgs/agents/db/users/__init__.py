"""Users of databases that are made on demand: who has sessions as which of them, and what they get.

accounts.py (what a protocol must do) <- postgres.py (PostgreSQL's statements)
keeper.py (who is in use; nothing is left behind) -> journal.py (on disk, for the next start)
"""
