"""The real `tsh` in front of a real SSH node: the node of `ssh_kit` behind the proxy of `clients_kit`."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pkgs.clients.tsh.profile import home
from pkgs.common.net.stream import Stream
from tests.integration.clients_kit import CLUSTER, ROOT, FakeCluster
from tests.integration.ssh_kit import SshNode, User

TSH = str(ROOT / "bin" / "tsh")
OWN, OPENSSH = "own", "openssh"


class TshNode:
    """A node and a login of tsh that reaches it as `root@node`, by either client."""

    def __init__(self, folder: Path, node: SshNode, cluster: FakeCluster) -> None:
        self.folder = folder
        self.node = node
        self.cluster = cluster
        cluster.serve = self._serve

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[TshNode]:
        (folder / "node").mkdir()
        (folder / "cluster").mkdir()
        with SshNode(folder / "node") as node, FakeCluster(folder / "cluster") as cluster:
            yield cls(folder, node, cluster)

    def log_in(self, user: User) -> None:
        """From now on tsh has this user's key and certificate."""
        profile = home.load(str(self.cluster.home), "127.0.0.1")
        paths = home.Paths(str(self.cluster.home), profile)
        Path(paths.ssh_key).write_bytes(user.key_file.read_bytes())
        # OpenSSH would go by the public key beside it.
        Path(paths.ssh_public).unlink(missing_ok=True)
        Path(paths.ssh_cert).write_text(user.certificate + "\n")
        self.trust(self.node.state.trust.ssh_ca_lines("host")[0])

    def trust(self, line: str) -> None:
        """From now on this host authority is tsh's."""
        known = self.cluster.home / "known_hosts"
        known.write_text(f"@cert-authority 127.0.0.1,{CLUSTER},*.{CLUSTER} {line} type=host\n")

    def env(self, client: str) -> dict[str, str]:
        return {**self.cluster.env, "TELEPORT_NO_OPENSSH": "true" if client == OWN else "", "TERM": "xterm"}

    def argv(self, *command: str, flags: tuple[str, ...] = (), login: str = "root") -> list[str]:
        return [TSH, "ssh", *flags, f"{login}@node", *command]

    def run(
        self,
        client: str,
        *command: str,
        flags: tuple[str, ...] = (),
        stdin: bytes = b"",
        login: str = "root",
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        argv = self.argv(*command, flags=flags, login=login)
        return subprocess.run(
            argv, input=stdin, capture_output=True, timeout=60, env=self.env(client) | (env or {})
        )

    @contextmanager
    def started(
        self, client: str, *command: str, flags: tuple[str, ...] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A client that is killed at the end. (OpenSSH sleeps over other signals; see `harness/clients`.)"""
        process = subprocess.Popen(
            self.argv(*command, flags=flags),
            env=self.env(client),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    async def _serve(self, stream: Stream, dial: object) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)

        async def down() -> None:
            while data := await reader.read(65536):
                stream.write(data)
                await stream.drain()
            stream.write_eof()

        async def up() -> None:
            while data := await stream.read_some():
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(down(), up())
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
