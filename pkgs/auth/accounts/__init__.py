"""Local users and what proves them: passwords, one-time codes, invitations, failed attempts, `Login`.

Promises that a login, a link or a code works once and only for its owner, that whatever is wrong looks the
same from outside, and that a change of what is secret about a user is one commit. Certificates it only
orders from `issuing`; it must not know a key of an authority, nor how resources are listed or watched.
"""
