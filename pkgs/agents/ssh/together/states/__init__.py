"""What is kept of one shared session beside whether it runs: which moderators have shown that they are there,
and whether its owner has left it. Each is a state machine of its own, without I/O, that `shared` asks and
tells.
"""
