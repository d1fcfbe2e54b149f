"""tsh's own SSH client, for machines without OpenSSH's: shells, commands, forwarded ports and agents.

Promises the checks, the exit statuses and the flags of the OpenSSH path, and a refusal for what it can't do.
One thread reads the connection (`common/ssh/client`), one loop does everything else. Must not know verbs; is
imported only when it is used, since its library starts slowly.
"""
