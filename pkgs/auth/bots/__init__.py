"""Machines with an identity: bots, their instances, and what their certificates may become.

Promises that a bot has exactly the user and the role that its document says, that a token lets in one
machine, that a copied certificate shows by its generation and locks the instance, and that what a machine
takes on is on its list. Must not know passwords; signs nothing itself but orders from `issuing`.
"""
