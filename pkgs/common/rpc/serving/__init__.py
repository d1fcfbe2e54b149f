"""The inside of the server of calls: the guard before libzmq, sessions, running calls, repeated ones.

Promises that a peer's bytes reach libzmq only parsed, bounded and written anew, and that what a session
holds is counted. Used by `rpc.server` alone; must not know what any call means.
"""
