"""Access requests from the user's side: asking, waiting, taking out certificates, giving back, showing.

Promises that a login on disk is always whole, and that whoever interrupts a wait is told how to go on. Must
not know how a log-in is made, nor the flags of verbs.
"""
