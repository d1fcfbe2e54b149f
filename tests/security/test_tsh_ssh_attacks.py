"""What a hostile server or proxy can do to somebody who runs `tsh ssh`, with the real OpenSSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.api.tunnel import UserDial
from pkgs.common.net.stream import Stream
from pkgs.common.pki import keys
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import sign_openssh_host_cert, sign_user_cert
from tests.integration.clients_kit import CLUSTER, FakeCluster, node

pytestmark = [
    pytest.mark.needs("ssh", "sshd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd serves root only as root"),
]

NAME = f"web.{CLUSTER}"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as made:
        yield made


class Server:
    """An OpenSSH server at the end of the stream, with the host certificate that a test gives it."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.key = keys.new_ssh_key()
        # Where a start of the machine would have made it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = folder / "sshd.log"
        self._cert = folder / "host-cert.pub"
        key, trusted, config = folder / "host", folder / "user-ca", folder / "sshd_config"
        for path, text in (
            (key, self.key.private_pem.decode()),
            (trusted, cluster.trust.ssh_ca_lines("user")[0]),
        ):
            path.touch(0o600)
            path.write_text(text + "\n")
        config.write_text(
            f"HostKey {key}\nHostCertificate {self._cert}\nTrustedUserCAKeys {trusted}\n"
            "PermitRootLogin yes\nUsePAM no\nStrictModes no\nAuthorizedKeysFile none\n"
        )
        self._argv = ["/usr/sbin/sshd", "-i", "-f", str(config), "-E", str(self.log)]
        cluster.serve = self._serve

    def present(self, certificate: str) -> None:
        self._cert.write_text(certificate + "\n")

    async def _serve(self, stream: Stream, dial: UserDial) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdin is not None and process.stdout is not None

        async def inward() -> None:
            assert process.stdin is not None
            while data := await stream.read_some():
                process.stdin.write(data)
            process.stdin.close()

        task = asyncio.create_task(inward())
        try:
            while data := await process.stdout.read(65536):
                stream.write(data)
                await stream.drain()
        finally:
            task.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def test_a03_only_a_host_certificate_of_the_logins_authority_is_a_server(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    server, now = Server(cluster, tmp_path), time.time()
    host_ca, user_ca = signers_of(cluster._host_ca).ssh, signers_of(cluster._user_ca).ssh
    assert host_ca is not None and user_ca is not None
    public, times = server.key.public_line, {"valid_after": now - 60, "valid_before": now + 600}
    spec = UserCertSpec(
        user="web", cluster=CLUSTER, roles=("access",), traits={}, logins=(NAME, "web"), **times
    )  # fmt: skip

    def reached(certificate: str) -> tuple[bool, str]:
        server.present(certificate)
        done = cluster.run("tsh", "ssh", "root@web", "echo in")
        return done.returncode == 0 and done.stdout == b"in\n", done.stderr.decode()

    good = sign_openssh_host_cert(host_ca, [NAME], public, **times)
    assert reached(good) == (True, ""), server.log.read_text()
    for refused in (
        sign_user_cert(host_ca, spec, public),
        sign_user_cert(user_ca, spec, public),
        sign_openssh_host_cert(user_ca, [NAME], public, **times),
        sign_openssh_host_cert(host_ca, [f"db.{CLUSTER}"], public, **times),
        sign_openssh_host_cert(host_ca, [NAME], public, valid_after=now - 600, valid_before=now - 60),
    ):
        got, error = reached(refused)
        assert not got
        assert "Host key verification failed" in error


def test_a17_a56_a64_names_of_hostile_servers_reach_neither_files_nor_the_terminal(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    hostnames = ["web", "../../escape", "\x1b]52;c;aGk=\x07", "-oProxyCommand=x", "web", "$(id)"]
    ids = [str(uuid.uuid4()) for _ in hostnames]
    cluster.resources = [
        node(hostname, host_id, env="prod") for hostname, host_id in zip(hostnames, ids, strict=True)
    ]
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "ssh"
    fake.write_text("#!/bin/sh\nprintf 'a\\033[2J\\r[db] forged\\n'\n")
    fake.chmod(0o755)
    logs = tmp_path / "logs"
    done = subprocess.run(
        [str(Path(__file__).parents[2] / "bin" / "tsh"), "ssh", f"--log-dir={logs}", "root@env=prod", "true"],
        env={**cluster.env, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"[{i}] a\\x1b[2J\\r[db] forged" for i in ids)
    assert {path.name for path in logs.iterdir()} == {f"{i}.{s}" for i in ids for s in ("stdout", "stderr")}
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "logs"}
    # The bytes as they came are in the file.
    assert (logs / f"{ids[0]}.stdout").read_bytes() == b"a\x1b[2J\r[db] forged\n"
