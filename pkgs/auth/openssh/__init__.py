"""Servers with OpenSSH and no agent, and agents while proxies record: the certificates with which a proxy
stands between them and users.

A proxy may not mint identities (attack A40): it gets a certificate only for a user who has proven, by a
signature that counts once, that they are logging in, for that login, to a server that their roles allow now.
"""
