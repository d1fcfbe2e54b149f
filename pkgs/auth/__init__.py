"""The Auth Service: who exists, who may sign, what happened.

The only part that owns state: users, roles, certificate authorities, tokens, the inventory, the audit log
and the recordings. Everything outside reaches it by the calls of `common/api`, on its TLS port (also
relayed by proxies) and on a local socket for the administrator. Must not know any other service's code.

    backend/       storage: one key-value interface
    store          typed resources over it, kept in memory by the backend's watch
    bootstrap      a new cluster: authorities, presets, settings of teleport.yaml
    accounts       passwords, second factors, invitations, lockout
    issue          certificates: a pipeline of pure steps, signed, audited, handed out
    join, resources, watch, audit, recordings, status    the handlers of the API, one file per area
    service, main  how it is put together, and the process
"""
