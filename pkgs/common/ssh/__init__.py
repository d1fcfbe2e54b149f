"""The one adapter around the SSH library: transports, certificates on both sides, algorithms, limits.

No other room imports paramiko, and no paramiko type leaves this one.
"""
