"""The client's side of a login and of a channel, without a connection."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.errors import InputError, LimitExceededError, TrustError
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.ssh import wire
from pkgs.common.ssh.client.channel import ClientChannel
from pkgs.common.ssh.client.hosts import ByAuthority, Pinned, trust_in_hosts, verify_host_signature
from pkgs.common.ssh.client.limits import MAX_BANNER_BYTES, MAX_BANNERS, MAX_PENDING_REQUESTS
from pkgs.common.ssh.client.login import Login, UserKey
from pkgs.common.ssh.signature import verify_login
from tests.harness.sshd import NAME, Authority

USERS, HOSTS = Authority(), Authority()
ACCEPTED = wire.string("ssh-userauth")


def test_the_signed_request_is_one_that_our_servers_verify() -> None:
    key = USERS.user()
    reader = wire.Reader(Login("root", key).request(b"s" * 32, wire.Reader(ACCEPTED)))
    reader.byte()
    assert [reader.text() for _ in range(3)] == ["root", "ssh-connection", "publickey"]
    assert reader.boolean()
    algorithm, blob, signature = reader.text(), reader.string(), reader.string()
    assert verify_login(b"s" * 32, "root", algorithm, blob, signature)
    assert not verify_login(b"t" * 32, "root", algorithm, blob, signature)


def test_a_success_or_failure_that_answers_nothing_is_an_error() -> None:
    login = Login("root", USERS.user())
    for take in (login.take_success, login.take_failure):
        with pytest.raises(wire.WireError):
            take()
    login.request(b"s" * 32, wire.Reader(ACCEPTED))
    with pytest.raises(wire.WireError):
        login.request(b"s" * 32, wire.Reader(ACCEPTED))
    login.take_failure()
    with pytest.raises(wire.WireError):
        login.take_success()
    assert not login.succeeded


def test_a66_banners_are_bounded_in_size_and_number() -> None:
    login = Login("root", USERS.user())
    for _ in range(MAX_BANNERS):
        login.take_banner(b"x" * MAX_BANNER_BYTES)
    assert len(login.banner) == MAX_BANNER_BYTES
    with pytest.raises(wire.WireError):
        login.take_banner(b"")


def test_a_plain_key_is_no_certificate_to_log_in_with() -> None:
    key = new_ssh_key()
    with pytest.raises(InputError):
        Login("root", UserKey(line_to_blob(key.public_line), lambda data: b""))


def test_a03_the_right_host_is_one_by_certificate_and_name() -> None:
    host = new_ssh_key()
    check = ByAuthority(trust_in_hosts([HOSTS.line]), [NAME], time.time)
    check.check(line_to_blob(HOSTS.host(host.public_line, NAME)))
    wrong = [
        line_to_blob(HOSTS.host(host.public_line, "elsewhere.example.com")),
        line_to_blob(USERS.host(host.public_line, NAME)),
        line_to_blob(host.public_line),
        USERS.user().certificate,
        HOSTS.user(NAME.split(".")[0]).certificate,
        b"",
    ]
    for blob in wrong:
        with pytest.raises(TrustError):
            check.check(blob)
    with pytest.raises(InputError):
        ByAuthority(trust_in_hosts([HOSTS.line]), ["", ""], time.time)
    with pytest.raises(InputError):
        Pinned(HOSTS.host(host.public_line, NAME))


def test_a16_a_host_proves_its_key_with_the_agreed_algorithm() -> None:
    other = Authority()
    blob = line_to_blob(HOSTS.host(other.line, NAME))
    signature = other.signer.sign(b"hash")
    algorithm = "ssh-ed25519-cert-v01@openssh.com"
    verify_host_signature(algorithm, blob, signature, b"hash")
    for name, signed, data in (
        (algorithm, signature, b"another"),
        (algorithm, HOSTS.signer.sign(b"hash"), b"hash"),
        ("rsa-sha2-512-cert-v01@openssh.com", signature, b"hash"),
        ("ssh-ed25519", signature, b"hash"),
        (algorithm, b"", b"hash"),
    ):
        with pytest.raises(TrustError):
            verify_host_signature(name, blob, signed, data)


class Heard:
    """An owner that remembers."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def opened(self) -> None:
        self.all.append("opened")

    def refused(self, code: int, text: str) -> None:
        self.all.append("refused")

    def data(self, data: bytes, stderr: bool) -> None:
        self.all.append(f"{'err' if stderr else 'out'} {data.decode()}")

    def eof(self) -> None:
        self.all.append("eof")

    def writable(self) -> None:
        self.all.append("writable")

    def answered(self, ok: bool) -> None:
        self.all.append(f"answered {ok}")

    def exit_status(self, status: int) -> None:
        self.all.append(f"status {status}")

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        self.all.append(f"signal {name}")

    def closed(self) -> None:
        self.all.append("closed")


def opened() -> tuple[ClientChannel, Heard, list[bytes]]:
    sent: list[bytes] = []
    heard = Heard()
    channel = ClientChannel(lambda head, data=b"": sent.append(head + data), 3, heard)
    channel.take_confirmation(9, 1000, 32768)
    return channel, heard, sent


def test_events_come_in_order_and_the_end_once() -> None:
    channel, heard, _ = opened()
    channel.take_data(b"a", stderr=False)
    channel.take_data(b"b", stderr=True)
    channel.take_request(wire.Reader(wire.string("exit-status") + wire.boolean(False) + wire.uint32(7)))
    channel.take_eof()
    channel.vanish()
    channel.vanish()
    assert heard.all == ["opened", "out a", "err b", "status 7", "eof", "closed"]


def test_a66_a_server_answers_only_what_was_asked_and_only_so_much() -> None:
    channel, _, _ = opened()
    with pytest.raises(wire.WireError):
        channel.take_answer(True)
    for _ in range(MAX_PENDING_REQUESTS):
        channel.shell()
    with pytest.raises(LimitExceededError):
        channel.shell()
    for act in (lambda: channel.take_confirmation(9, 0, 1024), lambda: channel.take_refusal(1, "")):
        with pytest.raises(wire.WireError):
            act()
    with pytest.raises(wire.WireError):
        channel.take_data(b"x" * (64 * 1024 * 1024), stderr=False)


def test_a66_nothing_comes_on_a_channel_that_is_not_open() -> None:
    heard = Heard()
    channel = ClientChannel(lambda head, data=b"": None, 3, heard)
    for act in (
        lambda: channel.take_data(b"x", stderr=False),
        lambda: channel.take_adjust(1),
        channel.take_eof,
    ):
        with pytest.raises(wire.WireError):
            act()
    channel.shell()
    assert channel.send(b"dropped") == 7 and heard.all == []


@pytest.mark.fuzz
@given(st.binary(max_size=300))
def test_whatever_a_server_sends_is_a_request_or_an_error(data: bytes) -> None:
    channel, _, _ = opened()
    with contextlib.suppress(wire.WireError):
        channel.take_request(wire.Reader(data))
    login = Login("root", USERS.user())
    with contextlib.suppress(wire.WireError):
        login.request(b"s" * 32, wire.Reader(data))
    check = ByAuthority(trust_in_hosts([HOSTS.line]), [NAME], time.time)
    with pytest.raises(TrustError):
        check.check(data)
    with pytest.raises(TrustError):
        verify_host_signature("ssh-ed25519", data, data, b"hash")
