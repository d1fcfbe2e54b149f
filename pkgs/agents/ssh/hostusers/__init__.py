"""OS accounts that the SSH Service makes on this host: for as long as somebody is logged in, to stay, or as
a `static_host_user` says. Promises to touch no account outside its marker groups and none of the system's,
and to follow no path that somebody else could have changed. `tools` is all that reaches the host.
"""
