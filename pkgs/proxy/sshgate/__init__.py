"""SSH's doorway: what an OpenSSH client meets on the proxy's SSH port, as a jump host or a subsystem.

The child speaks SSH with the stranger and holds no secret; the gate answers its few questions and hands a
connection to the server over. Promises that a stream is opened only through the connector, so that the
decision and its audit event are the same as on every other way in. Must not know the web side.
"""
