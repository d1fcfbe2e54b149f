"""The process of one connection on a node: shells, commands, terminals, files and forwarding, as the user.

It decides nothing and holds no secret; it asks the service through `common/ssh/process`. `child` is
its entry; `forwarding` is what it carries beside sessions.
"""
