"""What a connection forwards, in its process: streams to somewhere on behalf of the client, and streams that
come in here and go to it. Unix sockets and displays, which use the same, have rooms of their own beside
`session`.
"""
