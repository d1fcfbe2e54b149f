"""A cluster of real processes on loopback, driven only through its programs and their public flags."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.harness import totp
from tests.harness.ports import free_port
from tests.harness.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"
PASSWORD = "correct-horse-battery-9"
OS_USER = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")


@dataclass(slots=True)
class Run:
    """What a finished command left."""

    code: int
    out: str
    err: str

    def ok(self) -> Run:
        """This run, if it ended with 0; else an AssertionError with all that it said."""
        assert self.code == 0, f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
        return self


def run(
    *argv: str | Path,
    env: dict[str, str] | None = None,
    stdin: str = "",
    timeout: float = 60,
    cwd: Path | None = None,
) -> Run:
    """Run a command to its end with a bounded wait."""
    done = subprocess.run(
        [str(a) for a in argv],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=env,
        cwd=cwd,
    )
    return Run(done.returncode, done.stdout, done.stderr)


@dataclass(slots=True)
class Person:
    """A user of the cluster with a home of their own."""

    name: str
    home: Path
    cluster: Cluster
    otp_secret: str = ""
    inside: tuple[str, ...] = ()
    """Words before every command, such as `ip netns exec NAME`."""

    @property
    def env(self) -> dict[str, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith(("TELEPORT_", "SSH_"))}
        return {**base, "TELEPORT_HOME": str(self.home / ".tsh"), "HOME": str(self.home)}

    def tsh(self, *args: str, stdin: str = "", timeout: float = 60) -> Run:
        return run(*self.inside, BIN / "tsh", *args, env=self.env, stdin=stdin, timeout=timeout)

    def signup(self, link: str) -> None:
        answer = self.tsh(
            "signup", link, "--insecure", "--password-stdin", "--format=json", stdin=PASSWORD + "\n"
        ).ok()
        self.otp_secret = json.loads(answer.out)["otp_secret"]

    def login(self, *extra: str, password: str = PASSWORD, otp: str = "") -> Run:
        stdin = f"{password}\n"
        flags: tuple[str, ...] = ()
        if self.cluster.second_factor != "off":
            # Signing up used this step's code and a code serves once; the next step's is already valid.
            stdin += (otp or totp.code(self.otp_secret, step_offset=1)) + "\n"
            flags = ("--otp-stdin",)
        return self.tsh(
            "login",
            f"--proxy={self.cluster.proxy_addr}",
            f"--user={self.name}",
            "--insecure",
            "--password-stdin",
            *flags,
            *extra,
            stdin=stdin,
        )

    def ssh_config(self) -> Path:
        """An OpenSSH configuration from `tsh config`."""
        path = self.home / "ssh_config"
        path.write_text(self.tsh("config").ok().out)
        return path

    def ssh(self, *args: str, stdin: str = "", timeout: float = 60) -> Run:
        """Stock OpenSSH with that configuration."""
        argv = (*self.inside, "ssh", "-F", self.ssh_config(), *args)
        return run(*argv, env=self.env, stdin=stdin, timeout=timeout)


@dataclass(slots=True)
class Daemon:
    """One of our processes in the background; its log is a file."""

    name: str
    argv: list[str]
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, timeout: float = 15) -> int:
        """SIGTERM, then SIGKILL to its whole group if it does not go in time."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        return self.process.returncode


@dataclass(slots=True)
class Cluster:
    """`auth`, `proxy` and `ssh` as separate processes of one configuration file, or any of them."""

    name: str = "demo"
    nodename: str = "demo-node"
    second_factor: str = "off"
    services: tuple[str, ...] = ("auth", "proxy", "ssh")
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    """Address that users and agents reach the proxy at."""
    dir: Path = field(init=False)
    daemons: dict[str, Daemon] = field(init=False, default_factory=dict)
    auth_port: int = field(init=False)
    web_port: int = field(init=False)
    ssh_port: int = field(init=False)

    def __post_init__(self) -> None:
        # Short, because a unix socket's path may have 107 bytes only.
        self.dir = Path(tempfile.mkdtemp(prefix="tp-"))
        self.auth_port, self.web_port, self.ssh_port = free_port(), free_port(), free_port()
        self.write_config()

    def write_config(self) -> None:
        document: dict[str, Any] = {
            "version": "v3",
            "teleport": {
                "nodename": self.nodename,
                "data_dir": str(self.data_dir),
                "auth_server": f"127.0.0.1:{self.auth_port}",
                "log": {"severity": "DEBUG"},
            },
            "auth_service": {
                "enabled": "auth" in self.services,
                "cluster_name": self.name,
                "listen_addr": f"127.0.0.1:{self.auth_port}",
                "authentication": {"type": "local", "second_factor": self.second_factor},
            },
            "proxy_service": {
                "enabled": "proxy" in self.services,
                "web_listen_addr": f"127.0.0.1:{self.web_port}",
                "listen_addr": f"127.0.0.1:{self.ssh_port}",
                "public_addr": self.proxy_addr,
            },
            "ssh_service": {
                "enabled": "ssh" in self.services,
                "labels": {"env": "demo"},
                "x11": {"enabled": True, "display_offset": 20_000},
            },
        }
        for section, values in self.overrides.items():
            document.setdefault(section, {}).update(values)
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    @property
    def config(self) -> Path:
        return self.dir / "teleport.yaml"

    @property
    def data_dir(self) -> Path:
        return self.dir / "data"

    @property
    def proxy_addr(self) -> str:
        return f"{self.host}:{self.web_port}"

    @property
    def env(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith(("TELEPORT_", "SSH_"))}

    def daemon(self, name: str, *argv: str | Path) -> Daemon:
        """Start a program of bin/ in the background and keep it under `name`."""
        made = Daemon(name, [*self.inside, *(str(a) for a in argv)], self.dir / f"{name}.log", self.env)
        self.daemons[name] = made
        made.start()
        return made

    @classmethod
    @contextmanager
    def running(cls, **settings: Any) -> Iterator[Cluster]:
        """A cluster that is up, its own node listed, until the end of the block; then nothing is left."""
        made = cls(**settings)
        try:
            made.start()
            if "ssh" in made.services:
                made.wait_node(made.nodename)
            yield made
        finally:
            made.destroy()

    def start(self) -> Cluster:
        """All at the same time, as an init system does; they find one another."""
        for service in self.services:
            self._launch(service)
        for service in self.services:
            self.wait_ready(service)
        return self

    def start_service(self, service: str) -> Daemon:
        made = self._launch(service)
        self.wait_ready(service)
        return made

    def _launch(self, service: str) -> Daemon:
        return self.daemon(service, BIN / f"teleport-{service}", "-c", self.config)

    def wait_ready(self, service: str, deadline_s: float = 30) -> None:
        sock = self.data_dir / f"debug-{service}.sock"
        made = self.daemons[service]

        def ready() -> bool:
            assert made.alive(), f"{service} ended:\n{self.log(service)}"
            return self._get(sock, "/readyz") == 200

        wait_for(ready, what=f"{service} to be ready; its log:\n{made.log}", deadline_s=deadline_s)

    @staticmethod
    def _get(sock: Path, path: str) -> int:
        """The status of an answer; 0 while nobody answers."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(sock))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: debug\r\nConnection: close\r\n\r\n".encode())
            with client.makefile("rb") as answer:
                return int((answer.readline().split() or [b"", b"0"])[1])
        return 0

    def log(self, service: str) -> str:
        return self.daemons[service].log.read_text(errors="replace")

    def tctl(self, *args: str, stdin: str = "", timeout: float = 60) -> Run:
        return run(BIN / "tctl", "-c", self.config, *args, env=self.env, stdin=stdin, timeout=timeout)

    def get(self, ref: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = json.loads(self.tctl("get", ref, "--format=json").ok().out)
        return answer

    def events(self, kind: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = json.loads(
            self.tctl("audit", "ls", f"--type={kind}", "--format=json").ok().out
        )
        return answer

    def wait_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The newest event of this name whose fields are as given, once it has arrived."""

        def found() -> dict[str, Any] | None:
            hits = [e for e in self.events(kind) if all(e.get(k) == v for k, v in fields.items())]
            return hits[-1] if hits else None

        return wait_for(found, what=f"event {kind} with {fields}", every_s=0.3)

    def invite(self, name: str, roles: str = "access", logins: str = OS_USER, *extra: str) -> str:
        """Add a user; the invitation link."""
        out = self.tctl("users", "add", name, f"--roles={roles}", f"--logins={logins}", *extra).ok().out
        match = re.search(r"https://\S+/web/invite/\S+", out)
        assert match, out
        return match.group(0)

    def person(
        self,
        name: str,
        roles: str = "access",
        logins: str = OS_USER,
        *extra: str,
        inside: tuple[str, ...] = (),
    ) -> Person:
        """A new user who has signed up but is not logged in."""
        made = Person(name, self.dir / f"home-{name}", self, inside=inside)
        made.home.mkdir()
        made.signup(self.invite(name, roles, logins, *extra))
        return made

    def login(self, name: str, roles: str = "access", logins: str = OS_USER, *extra: str) -> Person:
        """A new user, signed up and logged in."""
        made = self.person(name, roles, logins, *extra)
        made.login().ok()
        return made

    def ca_pin(self) -> str:
        match = re.search(r"sha256:[0-9a-f]{64}", self.tctl("status").ok().out)
        assert match
        return match.group(0)

    def token(self, kind: str = "node", ttl: str = "1h") -> str:
        return self.tctl("tokens", "add", f"--type={kind}", f"--ttl={ttl}", "--format=text").ok().out.strip()

    def add_node(self, name: str, labels: str = "env=prod", *extra: str) -> Daemon:
        """One more agent, joined by token through the proxy; waits until it is listed."""
        made = self.daemon(
            name,
            BIN / "teleport-ssh",
            f"--data-dir={self.dir / name}",
            f"--proxy-server={self.proxy_addr}",
            f"--token={self.token()}",
            f"--ca-pin={self.ca_pin()}",
            f"--labels={labels}",
            f"--nodename={name}",
            "--insecure",
            *extra,
        )
        self.wait_node(name)
        return made

    def wait_node(self, name: str, deadline_s: float = 30) -> dict[str, Any]:
        def listed() -> dict[str, Any] | None:
            return next((n for n in self.get("nodes") if n["spec"]["hostname"] == name), None)

        return wait_for(listed, what=f"node {name} to be listed", deadline_s=deadline_s, every_s=0.2)

    def stop(self) -> None:
        for made in reversed(list(self.daemons.values())):
            made.stop()
        self.daemons.clear()

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
