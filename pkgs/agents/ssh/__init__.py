"""The SSH Service: an agent that lets users with certificates of the cluster into this host.

`main` and `service` are the process with the secrets: they accept streams (tunnels, direct dial), decide,
record and audit. `session` is the process of one connection: it speaks SSH, drops to the login's user, and
runs shells, commands and file transfers; it decides nothing. Between them: `messages`, in the order that
`common/ssh/process/monitor` draws. Must not know how the Auth or Proxy Service works inside.
"""
