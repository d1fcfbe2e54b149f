"""PostgreSQL, and what speaks its protocol, for the Database Service.

`engine` orders the steps of a connection; `login` is the way to a session on both sides, `conversation` the
session itself. `ledger` pairs answers with what was asked. `secrets`, `sql`, `readonly`, `masking` look into
texts and rows. The promises, and what they do not cover, are in docs/database-postgres.md.
"""
