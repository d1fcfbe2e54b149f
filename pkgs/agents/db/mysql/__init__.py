"""MySQL and MariaDB: both logins, and the conversation after them.

The agent greets the client, ignores its password (the certificate has said who it is) and logs in at the
server with a certificate. Then packets go through untouched but for commands that are refused.
"""
