"""`tsh proxy ssh-multiplex`: one process that connects many ssh, so that none pays for a start of its own.

    ssh --starts--> handover --socket--> multiplexer --TLS, kept ready--> proxy
    ssh <--the connected socket itself-- handover, which is gone then

Promises that only the same OS user is served, that a stream is asked for at the proxy each time, and that
`handover` imports next to nothing. It sees SSH's encrypted bytes only: a server still wants the user's key.
"""
