"""One command on many servers at once: bounded children, labelled lines, files per server, one status.

Promises that no child outlives the run, that no server's output can pose as another's, and that a server that
never stops sending costs no memory. Must not know how a server is reached: it is given whole command lines.
"""
