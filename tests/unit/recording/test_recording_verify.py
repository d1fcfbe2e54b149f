"""What `verify` says of recordings that are whole, cut, changed, or written anew by somebody else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner, signers_of
from pkgs.common.pki.sshcert import line_to_blob, sign_host_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.recording.seal import Seal, Signed
from pkgs.common.recording.verify import Verdict, verify
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from tests.unit.recording.recordings import SID, meta

HOSTS, OTHERS = new_authority("host", "alpha", 1.7e9), new_authority("host", "alpha", 1.7e9)
TRUST = Trust.from_authorities([HOSTS])
HOST, OTHER_HOST = meta().host_id, "0b2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0bb"


def sealing(authority=HOSTS, host: str = HOST, until: float = math.inf) -> Seal:
    signer = SshSigner.load(new_ssh_key().private_pem)
    spec = HostCertSpec(
        host_id=host,
        node_name="build-1",
        cluster="alpha",
        system_roles=(SystemRole.NODE,),
        valid_after=1.7e9,
        valid_before=until,
    )
    ca = signers_of(authority).ssh
    assert ca is not None
    certificate = line_to_blob(sign_host_cert(ca, spec, signer.public_line))
    return lambda message: Signed(certificate, signer.sign(message))


GOOD = sealing()


def recording(
    seal: Seal | None = GOOD, *, text: bytes = b"hello\r\n", finish: bool = True, **changes
) -> bytes:
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), meta(), now=0.0)
    for at in range(5):
        writer.output(text * (at + 1), float(at))
        writer.flush(float(at), force=True)
    if finish:
        writer.finish(5.0, ended=1_790_000_005.0, seal=seal)
    return bytes(out)


def check(raw: bytes, **changes) -> Verdict:
    return verify((raw[i : i + 1000] for i in range(0, len(raw), 1000)), TRUST, **changes)


def test_a_signed_recording_is_verified() -> None:
    found = check(recording(), session_id=SID)
    assert (found.state, found.problem, found.frames) == ("verified", "", 7)
    assert (found.session_id, found.host_id, found.user) == (SID, HOST, "mira")
    assert found.ended == 1_790_000_005.0


@pytest.mark.parametrize(
    ("seal", "problem"),
    [
        (lambda: sealing(OTHERS), "authority"),
        (lambda: sealing(host=OTHER_HOST), "another host"),
        (lambda: sealing(until=1_789_999_999.0), "expired"),
        (
            lambda: lambda message: Signed(GOOD(message).certificate, GOOD(message + b"x").signature),
            "signature",
        ),
        (lambda: lambda message: Signed(b"no certificate", b"no signature"), ""),
    ],
    ids=["authority", "host", "expired", "other bytes", "garbage"],
)
def test_a62_a_signature_of_somebody_else_is_none(seal: Callable[[], Seal], problem: str) -> None:
    found = check(recording(seal()))
    assert found.state == "forged"
    assert problem in found.problem


def test_a62_the_end_of_one_recording_does_not_fit_another() -> None:
    kept: list[Signed] = []

    def keep(message: bytes) -> Signed:
        kept.append(GOOD(message))
        return kept[0]

    assert check(recording(keep)).state == "verified"
    assert check(recording(keep, text=b"other\r\n")).state == "forged"
    assert check(recording(), session_id="00000000-9b1c-4c53-8a51-0d8a1f1f2b77").state == "forged"


def test_a_recording_without_signature_or_end_says_so() -> None:
    assert check(recording(None)).state == "unsigned"
    found = check(recording(finish=False))
    assert (found.state, found.frames) == ("cut", 6)
    assert check(b"").state == "damaged"
    assert check(b"no recording at all, but long enough for a header").state == "damaged"


WHOLE = recording()


@pytest.mark.fuzz
@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a62_no_changed_bit_is_verified(at: int, bit: int) -> None:
    changed = bytearray(WHOLE)
    changed[at] ^= 1 << bit
    assert check(bytes(changed)).state != "verified"


@pytest.mark.fuzz
@given(size=st.integers(0, len(WHOLE) - 1))
def test_a_recording_cut_anywhere_is_not_verified(size: int) -> None:
    assert check(WHOLE[:size]).state in ("cut", "damaged")
