"""Proxy templates: `proxy_templates` of the user's and the machine's configuration file, by which a host name
says through which proxy, in which cluster and to which server a connection goes.

Promises that regular expressions take linear time, that what was given on the command line is never
replaced, and that who has no such file pays one failed `open`. Must not know what a verb does.
"""
