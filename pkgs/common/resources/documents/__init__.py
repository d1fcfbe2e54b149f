"""Documents of people beside the resources they describe: where each stands in its file, what in it is the
server's to say, and how two states of one resource differ.

Promises values only: no files, no network. Must not know who may do what.
"""
