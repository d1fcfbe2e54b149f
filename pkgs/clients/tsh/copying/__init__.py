"""`tsh scp --continue`: going on with a copy that broke off, once what is there is known to be its beginning.

Promises that no byte is added to anything else, that a file is written from its start to its end, and that a
server decides no name here. Speaks SFTP itself, through the system's ssh or tsh's own: OpenSSH's programs go
on after comparing sizes only. All other copies are OpenSSH's scp.
"""
