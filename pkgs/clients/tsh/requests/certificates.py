"""New certificates for a stored login: with requests that were approved, or without."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.profile import home, store
from pkgs.clients.tsh.profile.login import Login, of_profile
from pkgs.common.api.login import ReissueUserCerts
from pkgs.common.errors import InputError
from pkgs.common.pki.keys import public_line_of, public_pem_of


def renew(login: Login, *, assume: Sequence[str] = (), drop: Sequence[str] = ()) -> Login:
    """The login with its new certificates, stored; the keys stay."""
    require_profile(login)
    request = ReissueUserCerts(
        ssh_public_key=public_line_of(home.read_text(login.ssh_key).encode()),
        tls_public_key=public_pem_of(home.read_text(login.tls_key).encode()),
        ttl_s=max(int(login.expires_at - time.time()) + 1, 1),
        assume=list(assume),
        drop=list(drop),
    )
    client = auth_client(login)
    try:
        certs = client.call(request)
    finally:
        client.close()
    store.replace_certs(login, certs.ssh_cert, certs.tls_cert)
    return of_profile(login.home, home.load(login.home, login.profile_name))


def require_profile(login: Login) -> None:
    """An identity file is somebody's to hand out, not ours to change."""
    if login.identity_file:
        raise InputError(
            "an identity file cannot take up or give back access requests", hint="log in with 'tsh login'"
        )
