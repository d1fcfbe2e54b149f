"""Attacks on a node's SSH server, over the wire, with raw clients and OpenSSH (rows of the checklist)."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import paramiko.sftp_client
import pytest
from paramiko.message import Message

from pkgs.agents.ssh.session.env import ClientEnv
from pkgs.agents.ssh.session.forward import dial, refusal_of
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner, signers_of
from pkgs.common.pki.sshcert import line_to_blob, sign_host_cert
from pkgs.common.ssh import wire
from tests.integration.ssh_kit import (
    CLUSTER,
    SshNode,
    User,
    change_role,
    ended,
    wait_until,
)

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen", "sftp", "scp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]

SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_SUCCESS, PK_OK = 6, 51, 52, 60


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


class _Answers:
    """Stands where the library's client keeps its login state: records what the server answers."""

    def __init__(self) -> None:
        self.seen: queue.Queue[tuple[int, bytes]] = queue.Queue()
        self.ok = False

    @property
    def _handler_table(self) -> dict[int, Any]:
        return {
            kind: self._taker(kind)
            for kind in (SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_SUCCESS, 53, PK_OK)
        }

    def _taker(self, kind: int) -> Any:
        def take(m: Message) -> None:
            if kind == USERAUTH_SUCCESS:
                self.ok = True
            if kind != 53:
                self.seen.put((kind, m.get_remainder()))

        return take

    def is_authenticated(self) -> bool:
        return self.ok

    def abort(self) -> None:
        self.seen.put((0, b""))


class Raw:
    """A client that says what it likes."""

    def __init__(self, node: SshNode) -> None:
        sock = socket.create_connection(("127.0.0.1", node.port))
        self.transport: Any = paramiko.Transport(sock)
        self.transport.start_client(timeout=20)
        self.answers = _Answers()
        self.transport.auth_handler = self.answers

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()
        self.transport.join(10)

    def send(self, data: bytes) -> None:
        message = Message()
        message.add_bytes(data)
        self.transport._send_message(message)

    def begin(self) -> None:
        self.send(b"\x05" + wire.string("ssh-userauth"))
        assert self.answer() == SERVICE_ACCEPT

    def answer(self) -> int:
        kind, _ = self.answers.seen.get(timeout=20)
        return kind

    def request(
        self,
        user: str,
        blob: bytes,
        key: paramiko.PKey | None = None,
        *,
        algorithm: str = "ssh-ed25519-cert-v01@openssh.com",
        session_id: bytes | None = None,
        signed_user: str | None = None,
        signed_algorithm: str | None = None,
    ) -> int:
        """A publickey request, signed if a key is given; the fields that are signed may differ."""
        head = b"\x32" + wire.string(user) + wire.string("ssh-connection") + wire.string("publickey")
        tail = wire.string(algorithm) + wire.string(blob)
        if key is None:
            self.send(head + b"\0" + tail)
            return self.answer()
        to_sign = (
            wire.string(self.transport.session_id if session_id is None else session_id)
            + b"\x32"
            + wire.string(user if signed_user is None else signed_user)
            + wire.string("ssh-connection")
            + wire.string("publickey")
            + b"\1"
            + wire.string(algorithm if signed_algorithm is None else signed_algorithm)
            + wire.string(blob)
        )
        signature = key.sign_ssh_data(to_sign)
        self.send(head + b"\1" + tail + wire.string(bytes(signature.asbytes())))
        return self.answer()

    def run(self, command: str) -> bytes:
        channel = self.transport.open_session()
        channel.exec_command(command)
        out: bytes = channel.makefile("rb").read()
        return out

    def hung_up(self) -> bool:
        return bool(wait_until(lambda: not self.transport.is_active(), "the server hangs up", 10))


def may_log_in(node: SshNode, key_file: Path, blob: bytes, login: str = "root") -> bool:
    """Whether this certificate, with its key, opens a session."""
    with Raw(node) as raw:
        key = paramiko.Ed25519Key.from_private_key_file(str(key_file))
        raw.begin()
        algorithm = wire.Reader(blob).text()
        if raw.request(login, blob, key, algorithm=algorithm) != USERAUTH_SUCCESS:
            return False
        return raw.run("echo in") == b"in\n"


def test_the_honest_user_gets_in(node: SshNode) -> None:
    user = node.user()
    assert may_log_in(node, user.key_file, user.blob)


# Certificates at the wire: the rules have their own tests in the pki room.


def _with_signer(blob: bytes, signature_key: bytes, signer: SshSigner) -> bytes:
    """The same certificate, said to be signed by `signature_key`, signed by `signer`."""
    reader = wire.Reader(blob)
    fields = [wire.string(reader.string()) for _ in range(3)]
    fields += [reader.take(12), wire.string(reader.string()), wire.string(reader.string()), reader.take(16)]
    fields += [wire.string(reader.string()) for _ in range(3)]
    body = b"".join(fields) + wire.string(signature_key)
    return body + wire.string(signer.sign(body))


def test_a01_a_certificate_signed_by_a_certificate(node: SshNode) -> None:
    inner_key = new_ssh_key()
    inner = line_to_blob(node.sign(inner_key.public_line, "ca-in-the-middle"))
    user = node.user()
    forged = _with_signer(user.blob, inner, SshSigner.load(inner_key.private_pem))
    assert not may_log_in(node, user.key_file, forged)


def test_a02_a_certificate_of_an_authority_nobody_trusts(node: SshNode) -> None:
    stranger = signers_of(new_authority("user", CLUSTER, time.time())).ssh
    user = node.user(signer=stranger)
    assert not may_log_in(node, user.key_file, user.blob)
    before = len(node.events.named("auth"))
    assert user.ssh("id").returncode == 255
    wait_until(lambda: len(node.events.named("auth")) == before + 1, "one audit event for the refused offer")


def test_a03_a_host_certificate_as_a_user(node: SshNode) -> None:
    key = new_ssh_key()
    spec = HostCertSpec(
        host_id="22222222-2222-4333-8444-555555555555",
        node_name="root",
        cluster=CLUSTER,
        system_roles=(SystemRole.NODE,),
        additional_principals=("root",),
        valid_after=time.time() - 60,
    )
    signer = signers_of(node.hosts).ssh
    assert signer is not None
    certificate = sign_host_cert(signer, spec, key.public_line)
    user = User(node, key, certificate)
    assert not may_log_in(node, user.key_file, user.blob)


def test_a07_a_certificate_before_and_after_its_time(node: SshNode) -> None:
    now = time.time()
    for start, end in ((now + 600, now + 1200), (now - 1200, now - 600)):
        user = node.user(valid_after=start, valid_before=end)
        assert not may_log_in(node, user.key_file, user.blob)


def test_a12_a_certificate_bound_to_another_address(node: SshNode) -> None:
    user = node.user(source_addr="192.0.2.7")
    assert not may_log_in(node, user.key_file, user.blob)
    here = node.user(source_addr="127.0.0.1")
    assert may_log_in(node, here.key_file, here.blob)


# Logging in.


def test_a08_the_key_that_signed_is_who_logged_in(node: SshNode) -> None:
    victim, attacker = node.user("victim"), node.user("mallory")
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(attacker.key_file))
        assert raw.request("root", attacker.blob) == PK_OK
        assert raw.request("root", victim.blob) == PK_OK
        assert raw.request("root", attacker.blob, key) == USERAUTH_SUCCESS
        assert raw.run("echo $SSH_TELEPORT_USER") == b"mallory\n"
    assert ended(node, "mallory").fields["user"] == "mallory"
    assert not [event for event in node.events.all if event.fields.get("user") == "victim"]


def test_a08_a_victims_certificate_with_the_attackers_signature(node: SshNode) -> None:
    victim, attacker = node.user("victim2"), node.user("mallory2")
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(attacker.key_file))
        assert raw.request("root", victim.blob) == PK_OK
        assert raw.request("root", victim.blob, key) == USERAUTH_FAILURE
        assert raw.request("root", attacker.blob, key) == USERAUTH_SUCCESS
        # A later offer changes nothing: the login is over.
        raw.send(
            b"\x32"
            + wire.string("root")
            + wire.string("ssh-connection")
            + wire.string("publickey")
            + b"\0"
            + wire.string("ssh-ed25519-cert-v01@openssh.com")
            + wire.string(victim.blob)
        )
        assert raw.run("echo $SSH_TELEPORT_USER") == b"mallory2\n"


def test_a08_the_login_name_may_not_change_between_requests(node: SshNode) -> None:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        assert raw.request("postgres", user.blob) == PK_OK
        assert raw.request("root", user.blob, key) == 0
        assert raw.hung_up()


@pytest.mark.parametrize(
    "lie",
    [
        {"session_id": b"\0" * 32},
        {"signed_user": "postgres"},
        {"signed_algorithm": "ssh-ed25519"},
        {"algorithm": "ssh-ed25519"},
        {"algorithm": "ecdsa-sha2-nistp256-cert-v01@openssh.com"},
        {"algorithm": "ssh-rsa-cert-v01@openssh.com"},
    ],
)
def test_a09_a_signature_over_something_else(node: SshNode, lie: dict[str, Any]) -> None:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        assert raw.request("root", user.blob, key, **lie) == USERAUTH_FAILURE


@pytest.mark.parametrize(
    "message",
    [
        b"\x5a" + wire.string("session") + wire.uint32(0) + wire.uint32(1 << 21) + wire.uint32(1 << 15),
        b"\x50" + wire.string("tcpip-forward") + b"\1" + wire.string("") + wire.uint32(0),
        b"\x06" + wire.string("ssh-userauth"),
        b"\x34",
        b"\x15",
        b"\x62" + wire.uint32(0) + wire.string("exec") + b"\1" + wire.string("id"),
        b"\x5e" + wire.uint32(0) + wire.string("x"),
        b"\x3d" + wire.uint32(0),
    ],
    ids=["open", "global", "accept", "success", "newkeys", "request", "data", "info-response"],
)
@pytest.mark.parametrize("asked_for_service", [False, True])
def test_a10_messages_out_of_order(node: SshNode, message: bytes, asked_for_service: bool) -> None:
    before = len(node.events.all)
    with Raw(node) as raw:
        if asked_for_service:
            raw.begin()
        raw.send(message)
        assert raw.hung_up()
    assert not [e for e in node.events.all[before:] if e.event.startswith("session")]


def _packets(sock: socket.socket) -> Iterator[bytes]:
    """Unencrypted packets."""
    reader = sock.makefile("rb")
    while line := reader.readline():
        if line.startswith(b"SSH-"):
            break
    while head := reader.read(5):
        length = int.from_bytes(head[:4], "big")
        body = reader.read(length - 1)
        yield body[: length - 1 - head[4]]


def _packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes((padding,)) + payload + b"\0" * padding


def test_a11_a16_what_the_server_offers(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        reader = wire.Reader(next(_packets(sock))[17:])
        kex, keys, ciphers, _, macs, _, compression = (reader.text().split(",") for _ in range(7))
    assert set(ciphers) == {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
    assert "kex-strict-s-v00@openssh.com" in kex
    assert not [name for name in kex if "sha1" in name or "group1" in name]
    assert not [name for name in macs if "sha1" in name or "md5" in name]
    assert compression == ["none"]
    assert keys[0] in ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com")


def test_a11_an_extra_message_in_a_strict_key_exchange(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        packets = _packets(sock)
        next(packets)
        lists = [
            "curve25519-sha256,kex-strict-c-v00@openssh.com",
            "ssh-ed25519",
            *["aes128-gcm@openssh.com"] * 2,
            *["hmac-sha2-256"] * 2,
            *["none"] * 2,
            "",
            "",
        ]
        kexinit = b"\x14" + os.urandom(16) + b"".join(wire.string(one) for one in lists) + b"\0" * 5
        sock.sendall(_packet(kexinit) + _packet(b"\x02" + wire.string("x")))
        assert list(packets) == []


@pytest.mark.parametrize(
    "option",
    [
        "Ciphers=aes256-cbc",
        "Ciphers=chacha20-poly1305@openssh.com",
        "Ciphers=aes128-ctr",
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ],
)
def test_a16_weak_algorithms_are_not_negotiated(node: SshNode, option: str) -> None:
    done = node.user().ssh("id", before=("-o", option))
    assert done.returncode == 255
    assert b"no matching" in done.stderr or b"Bad" in done.stderr


def test_a16_other_key_types_work_and_weak_ones_do_not(node: SshNode, tmp_path: Path) -> None:
    for kind, bits, extra, good in (
        ("ecdsa", "256", (), True),
        ("ecdsa", "521", (), True),
        ("rsa", "2048", (), True),
        ("rsa", "2048", ("-o", "PubkeyAcceptedAlgorithms=ssh-rsa-cert-v01@openssh.com"), False),
        ("rsa", "1024", ("-o", "RequiredRSASize=1024"), False),
    ):
        folder = tmp_path / f"{kind}{bits}{good}"
        folder.mkdir()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", folder / "id"], check=True
        )
        ca = folder / "ca"
        ca.touch(0o600)
        ca.write_bytes(node.users.spec.active_keys.ssh[0].private_key)
        subprocess.run(
            [
                *("ssh-keygen", "-q", "-s", ca, "-I", "alice", "-n", "root", "-V", "-1m:+1h"),
                *("-O", 'extension:teleport-roles={"version":"v1","roles":["access"]}', folder / "id.pub"),
            ],
            check=True,
        )
        user = node.user()
        user.key_file = folder / "id"
        done = user.ssh("echo in", before=extra)
        assert (done.stdout == b"in\n") is good, (kind, bits, done.stderr)


@pytest.mark.parametrize(
    "login",
    [
        "0",
        "00",
        "-oProxyCommand=id",
        "../x",
        "a" * 10_000,
        "r\u043e\u043et",
        "",
        "root\n",
        "root\0x",
        " root",
        "ROOT",
    ],
)
def test_a17_login_names(node: SshNode, login: str) -> None:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        assert raw.request(login, user.blob, key) in (USERAUTH_FAILURE, 0)


def test_keys_of_unknown_kinds_offered_first_do_no_harm(node: SshNode) -> None:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        blob = wire.string("sk-ssh-ed25519@openssh.com") + wire.string(b"x" * 32) + wire.string("ssh:")
        for algorithm in ("sk-ssh-ed25519@openssh.com", "ssh-dss", "sk-ssh-ed25519-cert-v01@openssh.com"):
            assert raw.request("root", blob, algorithm=algorithm) == USERAUTH_FAILURE
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        assert raw.request("root", user.blob, key) == USERAUTH_SUCCESS


def test_endless_login_attempts_are_ended(node: SshNode) -> None:
    with Raw(node) as raw:
        raw.begin()
        for _ in range(60):
            if raw.request("root", wire.string("ssh-dss"), algorithm="ssh-dss") == 0:
                return
        raise AssertionError("sixty attempts, and no end")


# What a certificate restricts.


def test_a13_a_forced_command_is_all_that_runs(node: SshNode) -> None:
    user = node.user("fay", force_command='echo forced "$SSH_ORIGINAL_COMMAND"')
    assert user.ssh("echo free").stdout == b"forced echo free\n"
    assert user.ssh().stdout == b"forced \n"
    assert b"forced" in user.ssh(before=("-tt",)).stdout
    with user.logged_in() as transport:
        for _ in range(2):
            channel = transport.open_session()
            channel.invoke_subsystem("sftp")
            assert channel.recv(100) == b"forced sftp\n"
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("192.0.2.1", 80), ("127.0.0.1", 1))
    copied = subprocess.run(
        ["scp", "-O", *user.options("-P"), "root@127.0.0.1:/etc/hostname", str(user.folder / "stolen")],
        capture_output=True,
    )
    assert copied.returncode != 0
    assert not (user.folder / "stolen").exists() or b"forced" in (user.folder / "stolen").read_bytes()


def test_a14_a_lock_ends_what_is_open_and_stops_what_is_new(node: SshNode) -> None:
    user = node.user("lola")
    argv = user.argv("echo up; sleep 60")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        begun = time.monotonic()
        node.lock(user="lola")
        assert client.wait(10) == 255
        assert time.monotonic() - begun < 5
        assert client.stderr is not None
        assert b"locked" in client.stderr.read()
    assert user.ssh("id").returncode == 255
    assert node.user("somebody-else").ssh("echo in").stdout == b"in\n"
    assert ended(node, "lola", "client.disconnect").code == "T3006I"


def test_a14_a_lock_between_two_channels_of_one_connection(node: SshNode) -> None:
    user = node.user("lars")
    with user.logged_in() as transport:
        node.state.locks = ()
        first = transport.open_session()
        first.exec_command("echo one")
        assert first.recv(10) == b"one\n"
        node.lock(user="lars")
        wait_until(lambda: not transport.is_active(), "hung up", 10)


def test_roles_are_asked_again_for_every_session(node: SshNode) -> None:
    with node.user("ray").logged_in() as transport:
        old = node.state.roles.pop("access")
        try:
            node.state.roles["access"] = type(old)(metadata=old.metadata)
            channel = transport.open_session()
            channel.exec_command("echo ran")
            assert channel.recv(10) == b""
        finally:
            node.state.roles["access"] = old
    assert ended(node, "ray", "session.rejected")


# Forwarding.


def _forward(user: User, host: str, port: int = 80) -> None:
    with user.logged_in() as transport:
        transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 1), timeout=20)


def test_a18_forwarding_that_the_roles_do_not_allow(node: SshNode) -> None:
    change_role(node, "access", port_forwarding=False)
    try:
        with pytest.raises(paramiko.ChannelException) as refused:
            _forward(node.user("fred"), "192.0.2.1")
        assert refused.value.code == 1
    finally:
        change_role(node, "access")
    assert ended(node, "fred", "port").code == "T3003E"
    with pytest.raises(paramiko.ChannelException):
        _forward(node.user("frida", extensions=("permit-pty",)), "192.0.2.1")
    assert ended(node, "frida", "port").code == "T3003E"


def test_a18_other_ways_to_the_same_power(node: SshNode) -> None:
    user = node.user()
    with user.logged_in() as transport:
        for kind, body in (
            ("direct-streamlocal@openssh.com", wire.string("/run/x.sock") + wire.string("") + wire.uint32(0)),
            ("forwarded-tcpip", b""),
            ("tun@openssh.com", b""),
        ):
            message = Message()
            message.add_byte(b"\x5a")
            message.add_string(kind)
            for number in (7, 1 << 21, 1 << 15):
                message.add_int(number)
            message.add_bytes(body)
            transport._send_user_message(message)
        assert transport.global_request("tcpip-forward", ("127.0.0.1", 0)) is None
        assert transport.global_request("streamlocal-forward@openssh.com", ("/tmp/x",)) is None
        channel = transport.open_session()
        channel.exec_command("echo alive")
        assert channel.recv(10) == b"alive\n"


def test_a19_an_unknown_os_user_is_refused_before_any_dial(node: SshNode) -> None:
    with pytest.raises((paramiko.SSHException, EOFError)):
        _forward(node.user("nils"), "192.0.2.1")
    assert False is _logged_in_as(node, "nosuchuser")


def _logged_in_as(node: SshNode, login: str) -> bool:
    user = node.user()
    with Raw(node) as raw:
        raw.begin()
        key = paramiko.Ed25519Key.from_private_key_file(str(user.key_file))
        return raw.request(login, user.blob, key) == USERAUTH_SUCCESS


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.1", "0x7f000001"),
        *("169.254.169.254", "fd00:ec2::254", "fe80::1", "224.0.0.1", "255.255.255.255", "2130706433"),
        "nonsense.invalid",
    ],
)
def test_a20_destinations_that_are_never_dialled(node: SshNode, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as victim:
        victim.settimeout(0.2)
        port = victim.getsockname()[1]
        with pytest.raises(paramiko.ChannelException):
            _forward(node.user("ada"), host, port)
        with pytest.raises(TimeoutError):
            victim.accept()
    assert ended(node, "ada", "port").code == "T3003E"


def test_a20_rules_by_address() -> None:
    for address in (
        "127.0.0.1",
        "127.255.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.1.1",
        "fe80::1%eth0",
        "0.0.0.0",
    ):
        assert refusal_of(address), address
    assert not refusal_of("198.51.100.7")
    with pytest.raises(OSError, match="loopback"):
        dial("127.0.0.1", 80)


# Files and environment.


def _sftp(user: User, batch: str, login: str = "root") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sftp", *user.options("-P"), "-b", "-", f"{login}@127.0.0.1"],
        input=batch.encode(),
        capture_output=True,
        timeout=60,
    )


def test_a56_a_file_transfer_can_do_what_its_user_can_and_no_more(node: SshNode, tmp_path: Path) -> None:
    user = node.user("fil")
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    got = user.folder / "got"
    for path in (str(secret), f"../../../../../../../..{secret}"):
        done = _sftp(user, f"get {path} {got}\n", login="postgres")
        assert done.returncode != 0
        assert not got.exists()
    link = f"/tmp/link-{os.getpid()}"
    done = _sftp(user, f"symlink {secret} {link}\nput {user.key_file} {link}\n", login="postgres")
    Path(link).unlink(missing_ok=True)
    assert done.returncode != 0
    assert secret.read_text() == "canary"


def test_a56_names_with_newlines_are_whole_and_inert_in_the_audit(node: SshNode, tmp_path: Path) -> None:
    name = "a\nT1000I user.login\x1b]0;x\x07\udcff"
    with node.user("eve").logged_in() as transport:
        sftp = paramiko.sftp_client.SFTPClient.from_transport(transport)
        assert sftp is not None
        path = os.fsencode(str(tmp_path)) + b"/" + os.fsencode(name)
        with sftp.open(path, "w") as file:  # type: ignore[arg-type]
            file.write(b"x")
        sftp.close()
    assert os.fsencode(name) in [os.fsencode(found.name) for found in tmp_path.iterdir()]
    event = ended(node, "eve", "sftp")
    assert str(event.fields["path"]).endswith("\\xff")
    str(event.fields["path"]).encode()


def test_a56_scp_of_both_kinds_and_its_odd_flags(node: SshNode, tmp_path: Path) -> None:
    user = node.user("scott")
    source = tmp_path / "with space and $(touch gone)"
    source.write_bytes(os.urandom(100_000))
    for flags in ((), ("-O",)):
        target = tmp_path / f"copy{len(flags)}"
        subprocess.run(
            ["scp", *flags, *user.options("-P"), str(source), f"root@127.0.0.1:{target}"], check=True
        )
        assert target.read_bytes() == source.read_bytes()
    assert not (tmp_path / "gone").exists()
    assert user.ssh("scp -t -Z /nonexistent/x").returncode != 0
    assert ended(node, "scott", "scp").code in ("T3005I", "T3005E")


def test_file_copying_can_be_switched_off(node: SshNode, tmp_path: Path) -> None:
    change_role(node, "access", ssh_file_copy=False)
    try:
        user = node.user("noel")
        for flags in ((), ("-O",)):
            target = tmp_path / f"copy{len(flags)}"
            done = subprocess.run(
                ["scp", *flags, *user.options("-P"), "/etc/hostname", f"root@127.0.0.1:{target}"],
                capture_output=True,
            )
            assert done.returncode != 0
            assert not target.exists()
        assert user.ssh("echo still").stdout == b"still\n"
    finally:
        change_role(node, "access")
    assert ended(node, "noel", "scp").code == "T3010E"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/tmp/x.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("DYLD_INSERT_LIBRARIES", "/tmp/x"),
        ("GLIBC_TUNABLES", "glibc.malloc.check=1"),
        ("BASH_ENV", "/tmp/x"),
        ("ENV", "/tmp/x"),
        ("PYTHONPATH", "/tmp"),
        ("PATH", "/tmp"),
        ("IFS", "x"),
        ("BASH_FUNC_ls%%", "() { id; }"),
        ("LANG=LD_PRELOAD", "x"),
        ("LANG\0LD_PRELOAD", "x"),
        ("", "x"),
        ("LC_ALL", "../../../tmp/evil"),
        ("LANG", "/tmp/evil"),
        ("TZ", ":/etc/shadow"),
        ("TZ", "/etc/shadow"),
        ("LC_ALL", "a\nLD_PRELOAD=x"),
        ("LC_ALL", "() { :; }; id"),
        ("LC_ALL", "x" * 100_000),
        ("SSH_TELEPORT_USER", "root"),
        ("SSH_ORIGINAL_COMMAND", "x"),
    ],
)
def test_a57_variables_that_are_not_taken(name: str, value: str) -> None:
    env = ClientEnv()
    assert not env.accept(name, value)
    assert env.variables == {}


def test_a57_over_the_wire_and_in_numbers(node: SshNode) -> None:
    assert [ClientEnv().accept(n, "de_DE.UTF-8") for n in ("LANG", "LC_ALL")] == [True, True]
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        for i in range(1000):
            channel.update_environment({f"LC_{chr(65 + i % 26)}{chr(65 + i // 26 % 26)}": "x"})
        channel.update_environment({"LD_PRELOAD": "/tmp/x.so", "PATH": "/tmp"})
        channel.exec_command("env")
        out = channel.makefile("rb").read().decode()
    assert "LD_PRELOAD" not in out
    assert "PATH=/usr" in out
    assert 0 < out.count("\nLC_") <= 32


# Bounds.


def test_a54_a_silent_client_and_an_endless_banner_are_ended(node: SshNode) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-" + b"x" * 100_000)
        _drain(sock)
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as sock:
        sock.sendall(b"SSH-2.0-x\r\n" + (0xFFFFFFF0).to_bytes(4, "big") + b"\0" * 100)
        _drain(sock)


def _drain(sock: socket.socket) -> None:
    """Read until the server ends the connection, one way or the other."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass


def test_a66_more_data_than_granted_ends_the_connection(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("sleep 30")
        for _ in range(200):
            message = Message()
            message.add_byte(b"\x5e")
            message.add_int(channel.remote_chanid)
            message.add_string(b"x" * 32000)
            with contextlib.suppress(EOFError, OSError):
                transport._send_user_message(message)
        wait_until(lambda: not transport.is_active(), "hung up", 10)


def test_a66_overflowing_window_and_tiny_packets(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        channel = transport.open_session()
        for _ in range(3):
            message = Message()
            message.add_byte(b"\x5d")
            message.add_int(channel.remote_chanid)
            message.add_int(0xFFFFFFFF)
            transport._send_user_message(message)
        wait_until(lambda: not transport.is_active(), "hung up", 10)
    with node.user().logged_in() as transport, pytest.raises(paramiko.ChannelException):
        transport.default_max_packet_size = 0
        message = Message()
        message.add_byte(b"\x5a")
        message.add_string("session")
        for number in (0, 1 << 21, 0):
            message.add_int(number)
        transport._send_user_message(message)
        transport.open_channel("nonsense")


def test_channels_are_bounded(node: SshNode) -> None:
    with node.user().logged_in() as transport:
        opened = []
        with pytest.raises(paramiko.ChannelException):
            for _ in range(100):
                opened.append(transport.open_session())
        assert len(opened) == 32


def test_a65_processes_of_connections_hold_no_key_and_show_no_secret(node: SshNode) -> None:
    assert node.pool._process is not None
    pid = node.pool._process.pid
    canary = node.users.spec.active_keys.ssh[0].private_key.splitlines()[2]
    assert canary not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert canary not in Path(f"/proc/{pid}/environ").read_bytes()
    found = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in maps:
            span, permissions, *_ = line.split()
            if "rw" in permissions and "[vvar]" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                found += canary in memory.read(end - start)
    assert found == 0
