"""A private OpenSSH server on a loopback port, with authorities of its own. A context manager."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import sign_openssh_host_cert, sign_user_cert
from pkgs.common.ssh.client.login import UserKey
from tests.harness.ports import free_port
from tests.harness.wait import wait_for

NAME = "box9.example.com"


class Authority:
    """A key that signs SSH certificates."""

    def __init__(self) -> None:
        self.key = new_ssh_key()
        self.signer = SshSigner.load(self.key.private_pem)

    @property
    def line(self) -> str:
        return self.signer.public_line

    def user(self, login: str = "root", **spec: object) -> UserKey:
        """A new key and its certificate."""
        key = new_ssh_key()
        values = {
            "user": "alice",
            "cluster": "demo",
            "roles": ("access",),
            "logins": (login,),
            "valid_after": time.time() - 60,
            "valid_before": time.time() + 300,
            "extensions": ("permit-pty", "permit-port-forwarding"),
            **spec,
        }
        return UserKey.load(
            sign_user_cert(self.signer, UserCertSpec(**values), key.public_line), key.private_pem
        )  # type: ignore[arg-type]

    def host(self, public_line: str, *names: str, **times: float) -> str:
        when = {"valid_after": time.time() - 60, "valid_before": time.time() + 3600, **times}
        return sign_openssh_host_cert(self.signer, names, public_line, **when)


class Sshd:
    """`sshd -D` with a key and, with `host_cert`, a certificate. Without `users` it trusts no authority."""

    def __init__(
        self, folder: Path, users: str, *, host_cert: str = "", host_pem: bytes = b"", more: str = ""
    ) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        key = folder / "host_key"
        key.touch(0o600)
        key.write_bytes(host_pem or new_ssh_key().private_pem)
        (folder / "users.pub").write_text(users + "\n")
        certificate = ""
        if host_cert:
            (folder / "host_key-cert.pub").write_text(host_cert + "\n")
            certificate = f"HostCertificate {folder}/host_key-cert.pub\n"
        trusted = f"TrustedUserCAKeys {folder}/users.pub\n" if users else ""
        self.config = folder / "sshd_config"
        self.config.write_text(
            f"{more}Port {self.port}\nListenAddress 127.0.0.1\nHostKey {key}\n{certificate}{trusted}"
            "AuthorizedKeysFile none\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nPrintMotd no\nPrintLastLog no\n"
            f"StrictModes no\nAcceptEnv LANG TP_*\nSubsystem sftp internal-sftp\nPidFile {folder}/pid\n"
        )

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}"

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def __enter__(self) -> Sshd:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        argv = [sshd, "-D", "-f", str(self.config), "-E", str(self.folder / "log")]
        self._process = subprocess.Popen(argv, env={"PATH": os.environ["PATH"]})
        wait_for(self._answers, what="sshd")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            self.dial().close()
        except OSError:
            return False
        return True
