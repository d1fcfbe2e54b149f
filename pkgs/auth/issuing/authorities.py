"""The cluster's certificate authorities as the rest of the service uses them: loaded signers, and trust.

Keys are loaded once and again only when an authority changes. The one place that hands out private keys.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pkgs.auth.backend.fanout import Change
from pkgs.auth.state.store import PREFIX, Store
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.pki.authority import without_secrets
from pkgs.common.pki.signer import SshSigner, TlsSigner, signers_of
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CaType, CertAuthority

_log = logging.getLogger(__name__)


class Authorities:
    def __init__(self, store: Store, cluster_name: str) -> None:
        self._store = store
        self.cluster_name = cluster_name
        self._on_change: list[Callable[[], None]] = []
        self._load()
        self._stop = store.backend.subscribe(f"{PREFIX}cert_authority/", self._changed)

    def _load(self) -> None:
        own = [self._own(ca_type) for ca_type in ("user", "host")]
        user, host = (signers_of(ca) for ca in own)
        if user.ssh is None or user.tls is None or host.ssh is None or host.tls is None:
            raise UnavailableError("a certificate authority of this cluster has lost its keys")
        self.user_ssh: SshSigner = user.ssh
        self.user_tls: TlsSigner = user.tls
        self.host_ssh: SshSigner = host.ssh
        self.host_tls: TlsSigner = host.tls
        self._public = [
            without_secrets(ca) for ca in self._store.all("cert_authority") if isinstance(ca, CertAuthority)
        ]
        self.trust = Trust.from_authorities(self._public, self.cluster_name)

    def _own(self, ca_type: CaType) -> CertAuthority:
        ca = self._store.get("cert_authority", self.cluster_name, ca_type)
        if not isinstance(ca, CertAuthority):
            raise UnavailableError(f"the {ca_type} authority of cluster {self.cluster_name} is missing")
        return ca

    def openssh_ssh(self) -> SshSigner:
        """For servers that run OpenSSH and no agent."""
        signer = signers_of(self._own("openssh")).ssh
        if signer is None:
            raise UnavailableError("the openssh authority of this cluster has lost its key")
        return signer

    def database_client(self) -> TlsSigner:
        """For what databases know their users by."""
        return self._tls("db_client")

    def database_server(self) -> TlsSigner:
        """For the databases themselves."""
        return self._tls("db")

    def _tls(self, ca_type: CaType) -> TlsSigner:
        signer = signers_of(self._own(ca_type)).tls
        if signer is None:
            raise UnavailableError(f"the {ca_type} authority of this cluster has lost its key")
        return signer

    def all(self) -> list[CertAuthority]:
        """Every authority with its public parts only."""
        return list(self._public)

    def for_clients(self) -> list[CertAuthority]:
        """The ones a user or an agent keeps: host and user."""
        return [ca for ca in self._public if ca.spec.type in ("host", "user")]

    def on_change(self, callback: Callable[[], None]) -> None:
        self._on_change.append(callback)

    def _changed(self, _: Change) -> None:
        try:
            self._load()
        except AccessError as error:
            # Keep signing with what we have; the message tells what is wrong with the new one.
            _log.error("certificate authorities were not reloaded: %s", error)
            return
        for callback in self._on_change:
            callback()

    def close(self) -> None:
        self._stop()
