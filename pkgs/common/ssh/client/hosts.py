"""Which server is the right one: by certificate, or by a pinned key. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Protocol

from pkgs.common.errors import InputError, TrustError
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh.key import CERT_SUFFIX
from pkgs.common.pki.ssh.parse import parse_cert
from pkgs.common.pki.ssh.wire import WireError
from pkgs.common.pki.sshcert import verify_host_cert
from pkgs.common.pki.trust import Trust, TrustedSshKey
from pkgs.common.ssh.signature import CERT_ALGORITHMS, PLAIN_ALGORITHMS


class HostCheck(Protocol):
    """One server's proof of who it is."""

    algorithms: tuple[str, ...]
    """Host key algorithms to ask for, best first."""

    def check(self, host_key: bytes) -> None:
        """Raises TrustError unless this key, whose signature holds, is the right server's."""


class ByAuthority(HostCheck):
    """A host certificate of a trusted host authority that names one of `names`. Plain keys are refused."""

    algorithms = CERT_ALGORITHMS

    def __init__(self, trust: Trust, names: Sequence[str], now: Callable[[], float]) -> None:
        if not any(names):
            raise InputError("a server that is reached needs a name")
        self._trust = trust
        self._names = tuple(names)
        self._now = now

    def check(self, host_key: bytes) -> None:
        verify_host_cert(host_key, trust=self._trust, names=self._names, now=self._now())


class Unchecked(HostCheck):
    """Whatever server answers, where an administrator has decided so."""

    algorithms = (*CERT_ALGORITHMS, *PLAIN_ALGORITHMS)

    def check(self, host_key: bytes) -> None:
        """Its signature holds; more is not asked."""


class Pinned(HostCheck):
    """Exactly this key, given as an `authorized_keys` line."""

    algorithms = PLAIN_ALGORITHMS

    def __init__(self, line: str) -> None:
        self._blob = sshkey.line_to_blob(line)
        try:
            sshkey.parse_public_blob(self._blob)
        except WireError as error:
            raise InputError(f"not a plain host key: {error}") from error

    def check(self, host_key: bytes) -> None:
        if not hmac.compare_digest(host_key, self._blob):
            raise TrustError("the server's host key is not the pinned one")


def trust_in_hosts(lines: Iterable[str], cluster: str = "") -> Trust:
    """Trust in host authorities given as plain public key lines, such as of a known_hosts file."""
    keys = {}
    for line in lines:
        blob = sshkey.line_to_blob(line)
        try:
            key_type, key = sshkey.parse_public_blob(blob)
        except WireError as error:
            raise InputError(f"not an authority's plain public key: {error}") from error
        keys[blob] = TrustedSshKey(cluster, sshkey.blob_to_line(blob), key_type, key)
    return Trust(cluster, MappingProxyType({"host": MappingProxyType(keys)}), MappingProxyType({}))


def verify_host_signature(algorithm: str, host_key: bytes, signature: bytes, exchange_hash: bytes) -> None:
    """Raises TrustError unless the server holds `host_key` and signed with the agreed algorithm."""
    try:
        if algorithm.endswith(CERT_SUFFIX):
            cert = parse_cert(host_key)
            key_type, key = cert.key_type, cert.public_key
        else:
            key_type, key = sshkey.parse_public_blob(host_key)
        used = sshkey.verify_signature(key_type, key, signature, exchange_hash)
    except WireError as error:
        raise TrustError("the server does not prove its host key", detail=str(error)) from error
    if used != algorithm.removesuffix(CERT_SUFFIX):  # attack A16
        raise TrustError("the server does not prove its host key", detail=f"signed with {used}")
