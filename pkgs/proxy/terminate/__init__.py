"""SSH that ends at the proxy: for servers that run OpenSSH and no agent, and for all while proxies record.

To the user the proxy is the server, with a certificate for its name; to the server it is the user, with a
certificate that it got for this one login. In between it decides, records and audits as an agent does. Each
connection has a process without power (see `common/ssh/process`), which parses what both sides send. Must
not know how a user's stream came here.
"""
