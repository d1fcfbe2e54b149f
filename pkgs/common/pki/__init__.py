"""Keys, X.509 and SSH certificates, CA pins, and the one way from bytes to an `Identity`.

Pure: no I/O; time is a parameter. Promises that an `Identity` exists only for a certificate that was
verified completely (chain, purpose, time, syntax). Must not know roles or decisions.
"""
