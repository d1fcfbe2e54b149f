"""The Database Service: users' own clients on one side, the databases of this network on the other.

A stream comes through a tunnel and carries TLS from the user's client to here. `connection` turns the
certificate into an identity, an engine (a folder for each protocol) speaks the protocol on both sides, and
`relay` moves bytes between them through the engine's `Conversation`, which tells what happened.
"""
