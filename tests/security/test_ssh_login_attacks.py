"""Attacks on logging in to a node, over the wire: certificates and signatures that should not do.

The rules for certificates have their own tests in test_certificates.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest

from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner, signers_of
from pkgs.common.pki.sshcert import line_to_blob, sign_host_cert
from pkgs.common.ssh import wire
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import (
    CLUSTER,
    SshNode,
    User,
    ended,
    wait_until,
)
from tests.security.ssh_attack_kit import (
    PK_OK,
    USERAUTH_FAILURE,
    USERAUTH_SUCCESS,
    Raw,
    may_log_in,
)

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen", "sftp", "scp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


def test_the_honest_user_gets_in(node: SshNode) -> None:
    user = node.user()
    assert may_log_in(node, user.key_file, user.blob)


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
        assert raw.request(OTHER, user.blob) == PK_OK
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
