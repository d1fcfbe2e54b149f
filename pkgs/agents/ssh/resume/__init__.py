"""Connections of the SSH Service that outlive the streams which carry them.

`desk` meets every new stream: it offers resumption, tells plain SSH clients from those who take the offer,
and brings those who come back to what they left. `pipe` moves the bytes between such a client and the
connection's process. Nothing here authenticates anybody or decides about access: SSH inside the stream does
the first, and the connection is asked whether its client may go on.
"""
