"""The verbs on instances of bots: the machines that joined."""
