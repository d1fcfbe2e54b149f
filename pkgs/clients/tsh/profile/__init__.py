"""Who is logged in where: the profile folder, the keys and certificates in it, or an identity file instead.

Promises `Login`, the one value every verb works from, read without a network and without a crypto library,
and that files with keys are private from their first byte. Must not know how a log-in is made.
"""
