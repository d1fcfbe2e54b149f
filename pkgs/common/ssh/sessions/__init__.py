"""The record of live SSH sessions: their audit events and recordings, wherever SSH is ended.

Shared by the SSH Service and by the proxy where that is what ends a user's SSH. Knows what a connection's
process says of its sessions (`messages`); decides nothing.
"""
