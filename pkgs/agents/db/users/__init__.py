"""Users of databases that are made on demand: who has sessions as which of them, and what they get.

accounts.py (what a protocol must do) <- mysql.py (MariaDB's statements)
                                      <- postgres.py -> postgres_objects.py (permissions on objects)
                                                     -> postgres_sql.py (the admin user's connection)
keeper.py (who is in use; nothing is left behind) -> journal.py (on disk, for the next start)
"""
