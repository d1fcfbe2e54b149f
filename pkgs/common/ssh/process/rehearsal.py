"""A key exchange in one process, between the library's client and our server, before anything is forked.

What it leaves behind (specialised bytecode, filled caches, loaded algorithms) would otherwise be made anew
in the private memory of every connection's process. Measured: about a megabyte each.
"""

from __future__ import annotations

import socket
import threading

from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport

from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner
from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.owner import OPEN_PROHIBITED, HostKey, OpenRefused
from pkgs.common.ssh.requests import DirectTcp

_DEADLINE_S = 10.0


class _Nobody:
    """Owner of a connection that ends after the key exchange and a refused login."""

    def __init__(self) -> None:
        self._signer = SshSigner.load(new_ssh_key().private_pem)
        self.blob = self._signer.public_blob
        self.over = threading.Event()

    def sign(self, algorithm: str, exchange_hash: bytes) -> bytes:
        return self._signer.sign(exchange_hash)

    def acceptable(self, user: str, blob: bytes) -> bool:
        return False

    def prove(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> None:
        raise AssertionError("there is nobody to log in")

    def open_session(self, channel: Channel) -> Owner:
        raise OpenRefused(OPEN_PROHIBITED, "")

    def open_direct_tcp(self, channel: Channel, target: DirectTcp) -> Owner:
        raise OpenRefused(OPEN_PROHIBITED, "")

    def remote_forward(self, asked: RemoteForward) -> None:
        """Nothing is listened on."""

    def ended(self, reason: str) -> None:
        self.over.set()


def rehearse() -> None:
    """Leaves no thread and no descriptor behind."""
    ours, theirs = socket.socketpair()
    owner = _Nobody()
    connection = Connection(ours, owner, owner, [HostKey(algorithm="ssh-ed25519", blob=owner.blob)])
    client = Transport(theirs)
    connection.start()
    try:
        client.start_client(timeout=_DEADLINE_S)
        client.auth_none("nobody")
    except SSHException:
        pass  # it is refused: that was the plan
    finally:
        client.close()
        connection.abort()
        owner.over.wait(_DEADLINE_S)
        connection.join(_DEADLINE_S)
        client.join(_DEADLINE_S)
