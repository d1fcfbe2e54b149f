"""How a user reaches a server: finding the target, the decision, the agent's tunnel or a direct dial.

Promises that a name which does not exist and one that is forbidden get the same answer, that each attempt
leaves an audit event, and that no wait for an agent is without end. Must not know which protocol flows
through the connection it makes, nor who asked for it: the dial gate, SSH's doorway.
"""
