"""What is kept of one shared session beside whether it runs: which moderators have shown that they are there,
whether its owner has left it, and whether they may copy files. Each is a state machine of its own, without
I/O, that `shared` asks and tells.
"""
