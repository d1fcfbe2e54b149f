"""The Proxy Service: the one public TLS port, its routes, the tunnels of agents, the web API.

It keeps no state of its own and can't read what it relays: a user's stream to an agent is encrypted end
to end, a call to the Auth Service is relayed untouched. What it decides is who may be connected where,
by the same decision function and the same cluster cache as everybody else, so that it still routes while
the Auth Service restarts. Knows no agent protocol but SSH's doorway (`sshgate`).
"""
