"""Making a host that runs OpenSSH and no agent a server of the cluster: `teleport join openssh`.

Promises that sshd goes on as before whenever a step fails. Must not know what the proxy does with the server.
"""
