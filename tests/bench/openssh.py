"""The reference: plain OpenSSH with certificates on both sides, a jump host and a target, on loopback.

Set up fairly: the same OS user with an empty profile as our agent serves, the same cipher, no DNS
look-ups, no PAM, certificates for users and hosts.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.harness.cluster import run
from tests.harness.ports import free_port
from tests.harness.wait import wait_for

CIPHER = "aes128-gcm@openssh.com"


class BenchUser:
    """An OS user whose shell starts at once: no profile. Root makes one; anybody else is themselves."""

    def __init__(self) -> None:
        self.made = os.geteuid() == 0
        self.name = "tpbench" if self.made else pwd.getpwuid(os.geteuid()).pw_name

    def __enter__(self) -> BenchUser:
        if self.made:
            self.home = Path(tempfile.mkdtemp(prefix="tpbench-"))
            run("useradd", "--no-create-home", "--home-dir", self.home, "--shell", "/bin/sh", self.name)
            entry = pwd.getpwnam(self.name)
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
            # A locked password would make sshd refuse the account; `*` only means that none fits.
            run("usermod", "--home", self.home, "--password", "*", self.name).ok()
        return self

    def __exit__(self, *_: object) -> None:
        if self.made:
            run("userdel", self.name)
            shutil.rmtree(self.home, ignore_errors=True)


class OpenSshPair:
    """Two sshd (jump and target), one user certificate, one client configuration."""

    def __init__(self, user: BenchUser) -> None:
        self.user = user
        self.dir = Path(tempfile.mkdtemp(prefix="tp-ref-"))
        self.dir.chmod(0o755)
        self.ports = {"jump": free_port(), "target": free_port()}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def _keygen(self, *args: str | Path) -> None:
        run("ssh-keygen", "-q", *args, cwd=self.dir).ok()

    def __enter__(self) -> OpenSshPair:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        for ca in ("userca", "hostca"):
            self._keygen("-t", "ed25519", "-N", "", "-f", ca)
        self._keygen("-t", "ed25519", "-N", "", "-f", "id")
        self._keygen("-s", "userca", "-I", "bench", "-n", self.user.name, "-V", "+1d", "id.pub")
        for name, port in self.ports.items():
            self._keygen("-t", "ed25519", "-N", "", "-f", f"{name}_key")
            self._keygen("-s", "hostca", "-I", name, "-h", "-n", f"{name},127.0.0.1", f"{name}_key.pub")
            (self.dir / f"{name}.conf").write_text(
                f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.dir}/{name}_key\n"
                f"HostCertificate {self.dir}/{name}_key-cert.pub\nTrustedUserCAKeys {self.dir}/userca.pub\n"
                "AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
                "UsePAM no\nUseDNS no\nPrintMotd no\nPrintLastLog no\nStrictModes no\n"
                "MaxStartups 1000\nMaxSessions 1000\nSubsystem sftp internal-sftp\n"
                f"PidFile {self.dir}/{name}.pid\n"
            )
            sshd = shutil.which("sshd") or "/usr/sbin/sshd"
            self.daemons[name] = subprocess.Popen(
                [sshd, "-D", "-f", str(self.dir / f"{name}.conf"), "-E", str(self.dir / f"{name}.log")]
            )
        ca_line = (self.dir / "hostca.pub").read_text()
        (self.dir / "known_hosts").write_text(f"@cert-authority * {ca_line}")
        self.config.write_text(
            "".join(
                f"Host {name}\n  HostName 127.0.0.1\n  HostKeyAlias {name}\n  Port {port}\n"
                for name, port in self.ports.items()
            )
            + f"Host target\n  ProxyJump jump\nHost *\n  User {self.user.name}\n"
            f"  IdentityFile {self.dir}/id\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.dir}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            f"  StrictHostKeyChecking yes\n  BatchMode yes\n  Ciphers {CIPHER}\n"
        )
        wait_for(lambda: run("ssh", "-F", self.config, "target", "true").code == 0, what="the reference")

    @property
    def config(self) -> Path:
        return self.dir / "config"

    def __exit__(self, *_: object) -> None:
        for process in self.daemons.values():
            process.terminate()
            process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)
