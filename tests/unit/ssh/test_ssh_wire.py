"""Parsers of the SSH room: total on any bytes, exact on good ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.ssh import wire
from pkgs.common.ssh.algorithms import offered
from pkgs.common.ssh.requests import (
    EnvRequest,
    ExecRequest,
    OtherRequest,
    PtyRequest,
    TerminalSize,
    WindowChange,
    read_direct_tcp,
    read_request,
)
from pkgs.common.ssh.signature import CERT_ALGORITHMS, is_certificate_offer, verify_login
from tests.harness.examples import examples

KINDS = ("pty-req", "env", "shell", "exec", "subsystem", "window-change", "signal", "x11-req", "nonsense")


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_requests_parse_or_say_why_not(data: bytes, kind: str) -> None:
    try:
        read_request(kind, wire.Reader(data))
    except wire.WireError:
        return


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=100))
def test_forward_targets_parse_or_say_why_not(data: bytes) -> None:
    try:
        target = read_direct_tcp(wire.Reader(data))
    except wire.WireError:
        return
    assert 0 < target.port < 65536


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=100), st.sampled_from((*CERT_ALGORITHMS, "x", "")))
def test_nothing_made_up_verifies(blob: bytes, signature: bytes, algorithm: str) -> None:
    full = wire.string(algorithm) + blob
    assert not verify_login(b"x" * 32, "root", algorithm, full, signature)
    assert not verify_login(b"", "root", algorithm, full, signature)


@given(st.binary(max_size=50), st.integers(0, 2**32 - 1), st.booleans())
def test_round_trip(data: bytes, number: int, flag: bool) -> None:
    reader = wire.Reader(wire.string(data) + wire.uint32(number) + wire.boolean(flag))
    assert (reader.string(), reader.uint32(), reader.boolean()) == (data, number, flag)
    assert reader.at_end()


def test_requests_by_example() -> None:
    size = wire.uint32(132) + wire.uint32(50) + wire.uint32(0) + wire.uint32(0)
    pty = read_request("pty-req", wire.Reader(wire.string("xterm") + size + wire.string(b"\0")))
    assert pty == PtyRequest("xterm", TerminalSize(132, 50), b"\0")
    assert read_request("exec", wire.Reader(wire.string(b"\xff"))) == ExecRequest(b"\xff")
    env = read_request("env", wire.Reader(wire.string("A") + wire.string("b")))
    assert env == EnvRequest("A", "b")
    assert read_request("tun@openssh.com", wire.Reader(b"")) == OtherRequest("tun@openssh.com")


def test_absurd_terminal_sizes_are_clamped() -> None:
    huge = wire.Reader(wire.uint32(2**32 - 1) * 4)
    change = read_request("window-change", huge)
    assert change == WindowChange(TerminalSize(10_000, 10_000, 65535, 65535))
    assert read_request("window-change", wire.Reader(wire.uint32(0) * 4)) == WindowChange(
        TerminalSize(80, 24)
    )


def test_only_certificates_of_the_named_kind_are_offers() -> None:
    ed25519 = "ssh-ed25519-cert-v01@openssh.com"
    assert is_certificate_offer(ed25519, wire.string(ed25519))
    assert not is_certificate_offer("ssh-ed25519", wire.string("ssh-ed25519"))
    assert not is_certificate_offer(ed25519, wire.string("ssh-rsa-cert-v01@openssh.com"))
    rsa = wire.string("ssh-rsa-cert-v01@openssh.com")
    assert is_certificate_offer("rsa-sha2-512-cert-v01@openssh.com", rsa)
    assert not is_certificate_offer("ssh-rsa-cert-v01@openssh.com", rsa)
    assert not is_certificate_offer(ed25519, b"")


@pytest.mark.parametrize("allow_ctr", [False, True])
def test_a11_no_combination_that_truncation_needs(allow_ctr: bool) -> None:
    algorithms = offered(allow_ctr)
    assert not [name for name in algorithms.ciphers if "cbc" in name or "chacha" in name or "3des" in name]
    if any("ctr" in name for name in algorithms.ciphers):
        assert not [name for name in algorithms.macs if "etm" in name]
