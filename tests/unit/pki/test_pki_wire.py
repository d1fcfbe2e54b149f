"""The SSH wire reader and the certificate parser under mutation: only WireError or a value comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import AccessError, InputError
from pkgs.common.pki import sshcert
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh import wire as sshwire
from pkgs.common.pki.ssh.parse import parse_cert
from pkgs.common.pki.ssh.wire import Reader, WireError
from tests.harness.examples import examples
from tests.security.cert_kit import NOW, TRUST, USER_KEY, Craft, options, plain_blob

BLOB = Craft(
    critical=options(("source-address", "10.0.0.0/8"), ("force-command", "true")),
    extensions=options(("permit-pty", None), ("teleport-roles", '{"roles":["a"]}')),
).blob()


def test_scalars_round_trip() -> None:
    reader = Reader(sshwire.uint32(7) + sshwire.uint64(8) + sshwire.text("é") + sshwire.mpint(2**255))
    assert (reader.uint32(), reader.uint64(), reader.text(), reader.mpint()) == (7, 8, "é", 2**255)
    reader.end()


@given(st.integers(min_value=1, max_value=2**4096))
@settings(max_examples=examples(60))
def test_integers_round_trip(value: int) -> None:
    reader = Reader(sshwire.mpint(value))
    assert reader.mpint() == value
    reader.end()


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\1", b"\0\x00\x80", b"\x80", b"\xff"])
def test_integers_only_positive_and_shortest(raw: bytes) -> None:
    reader = Reader(sshwire.string(raw))
    if raw == b"\0\x00\x80" or raw in {b"", b"\0", b"\0\1", b"\x80", b"\xff"}:
        with pytest.raises(WireError):
            reader.mpint()


def test_trailing_bytes_and_bad_text() -> None:
    with pytest.raises(WireError):
        Reader(b"x").end()
    with pytest.raises(WireError):
        Reader(sshwire.string(b"\xff")).text()
    with pytest.raises(WireError):
        Reader(b"\xff\xff\xff\xff").string()


@pytest.mark.fuzz
@given(st.integers(0, len(BLOB)), st.binary(max_size=60))
@settings(max_examples=examples(100))
def test_cut_certificate_with_a_random_tail(cut: int, tail: bytes) -> None:
    try:
        parse_cert(BLOB[:cut] + tail)
    except WireError:
        pass
    else:
        assert BLOB[:cut] + tail == BLOB or cut > len(BLOB) - 90


@pytest.mark.fuzz
@given(st.lists(st.tuples(st.integers(0, len(BLOB) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=examples(100))
def test_changed_certificate_is_never_believed(edits: list[tuple[int, int]]) -> None:
    changed = bytearray(BLOB)
    for at, value in edits:
        changed[at] = value
    if bytes(changed) == BLOB:
        return
    with pytest.raises(AccessError):
        sshcert.verify_user_cert(bytes(changed), trust=TRUST, login="root", source_addr="10.0.0.1", now=NOW)


@pytest.mark.fuzz
@given(st.binary(max_size=400))
@settings(max_examples=examples(100))
def test_random_bytes(raw: bytes) -> None:
    with pytest.raises(WireError):
        parse_cert(raw)


def test_large_input_is_refused_before_parsing() -> None:
    with pytest.raises(WireError, match="large"):
        parse_cert(BLOB + bytes(64 * 1024))
    with pytest.raises(InputError):
        sshcert.unverified_facts(b"")
    assert sshcert.unverified_facts(BLOB).principals == ("root", "alice")


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5"]
)
def test_lines_that_are_no_keys(line: str) -> None:
    with pytest.raises(InputError):
        sshkey.line_to_blob(line)


@pytest.mark.parametrize(
    "blob",
    [
        sshwire.text("ssh-ed25519") + sshwire.string(b"x" * 31),
        sshwire.text("ssh-rsa") + sshwire.mpint(4) + sshwire.mpint(2**2047 + 1),
        sshwire.text("ssh-rsa") + sshwire.mpint(65537) + sshwire.mpint(2**2047),
        sshwire.text("ssh-rsa") + sshwire.mpint(65537) + sshwire.mpint(2**9000 + 1),
        sshwire.text("ecdsa-sha2-nistp256") + sshwire.text("nistp384") + sshwire.string(b"\4"),
        sshwire.text("ecdsa-sha2-nistp256") + sshwire.text("nistp256") + sshwire.string(b"\4" + b"\1" * 64),
        sshwire.text("sk-ssh-ed25519@openssh.com") + sshwire.string(b"x" * 32),
        plain_blob(USER_KEY.public_key()) + b"x",
        BLOB,
    ],
)
def test_malformed_and_weak_plain_keys(blob: bytes) -> None:
    with pytest.raises(WireError):
        sshkey.parse_public_blob(blob)
