"""Access lists in the Auth Service: who is in which list, who may change that, reviews, and what is refused.

Promises that a list never gives what the graph of `common/access/lists` does not say, that owners
change members and reviews of their lists and nothing else, that nobody lets themselves in, and that nothing
of an earlier user or list comes to life again with its name. Must not know how certificates are made.
"""
