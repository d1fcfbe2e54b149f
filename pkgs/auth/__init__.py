"""The Auth Service: who exists, who may sign, what happened.

The only part that owns state: users, roles, certificate authorities, tokens, the inventory, the audit log
and the recordings. Everything outside reaches it by the calls of `common/api`, on its TLS port (also
relayed by proxies) and on a local socket for the administrator. Must not know any other service's code.

    backend/       storage: one key-value interface
    state/         typed resources over it, kept in memory by the backend's watch; a cluster's first start
    audit/         the log, what this service writes into it, recordings
    issuing/       certificates: a pipeline of pure steps, signed, audited, handed out; joining hosts
    accounts/      passwords, second factors, invitations, lockout, login
    resources/     reading, writing and watching resources
    sessions/      which sessions are alive, and ending one
    explaining     why a user may or may not, who may, what a user may
    permissions, gate    who may do what, and how often a stranger may try
    registry, service, main    every call and its callers, how it is put together, the process

Each uses only what stands above it here; a test holds them to that.
"""
