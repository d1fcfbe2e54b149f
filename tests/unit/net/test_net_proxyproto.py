"""The PROXY header: signed ones are believed once and only from a proxy; everything else never is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import AccessError, ProtocolError, TrustError
from pkgs.common.net.proxyproto.header import V2_START, PlainHeaderReader, build_v2, header_length, packed
from pkgs.common.net.proxyproto.signed import FOR_AUTH, HeaderSigner, ProxyVerifier
from pkgs.common.pki.identity import SystemRole
from tests.harness.examples import examples
from tests.integration.proxy_kit import Authorities

SHARED = Authorities()
PROXY = SHARED.host("00000000-0000-4000-8000-00000000000a", SystemRole.PROXY)
NODE = SHARED.host("00000000-0000-4000-8000-00000000000b", SystemRole.NODE)
SOURCE, DESTINATION = ("192.0.2.7", 4711), ("192.0.2.1", 3025)


class FakeClock:
    now = PROXY.valid_after + 100

    def __call__(self) -> float:
        return self.now


def verifier(clock: FakeClock | None = None, audience: str = FOR_AUTH) -> ProxyVerifier:
    return ProxyVerifier(lambda: SHARED.trust, clock or FakeClock(), audience=audience)


def signed(source: tuple[str, int] = SOURCE, now: float = FakeClock.now, audience: str = FOR_AUTH) -> bytes:
    signer = HeaderSigner(cert_pem=PROXY.tls_cert, key_pem=PROXY.tls_private_pem, cluster=SHARED.cluster)
    return signer.sign(source=source, destination=DESTINATION, audience=audience, now=now)


@pytest.mark.parametrize("source", [SOURCE, ("2001:db8::7", 1), ("::ffff:192.0.2.9", 2)])
def test_a_header_of_our_proxy_is_believed(source: tuple[str, int]) -> None:
    header = signed(source)
    assert header_length(header) == len(header)
    assert verifier().verify(header) == (source[0].removeprefix("::ffff:"), source[1])


def test_a55_a_header_is_believed_once() -> None:
    once = verifier()
    header = signed()
    once.verify(header)
    with pytest.raises(TrustError, match="before"):
        once.verify(header)


def test_a55_a_header_that_an_agent_was_shown_is_worth_nothing_elsewhere() -> None:
    """An agent with a port of its own sees the headers of those who come to it: with a stolen certificate
    that is pinned to such an address, it must not get past the pin at Auth or at another agent."""
    other = "00000000-0000-4000-8000-00000000000d"
    shown = signed(audience=NODE.host_id)
    assert verifier(audience=NODE.host_id).verify(shown) == SOURCE
    for audience in (FOR_AUTH, other):
        with pytest.raises(TrustError, match="signature"):
            verifier(audience=audience).verify(shown)


def test_a55_an_old_or_future_header_is_not_believed() -> None:
    for shift in (-61, 61):
        with pytest.raises(TrustError, match="too old"):
            verifier().verify(signed(now=FakeClock.now + shift))


def test_a55_a_changed_address_breaks_the_signature() -> None:
    header = signed()
    at = header.index(bytes([192, 0, 2, 7]))
    with pytest.raises(TrustError, match="signature"):
        verifier().verify(header[:at] + bytes([10, 0, 0, 1]) + header[at + 4 :])


@pytest.mark.parametrize(
    "identity", [NODE, Authorities().host("00000000-0000-4000-8000-00000000000c", SystemRole.PROXY)]
)
def test_a55_only_a_proxy_of_this_cluster_may_sign(identity: object) -> None:
    signer = HeaderSigner(
        cert_pem=identity.tls_cert,  # type: ignore[attr-defined]
        key_pem=identity.tls_private_pem,  # type: ignore[attr-defined]
        cluster=SHARED.cluster,
    )
    with pytest.raises(TrustError):
        verifier().verify(
            signer.sign(source=SOURCE, destination=DESTINATION, audience=FOR_AUTH, now=FakeClock.now)
        )


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 3025\r\n",
        build_v2(packed(SOURCE, DESTINATION), {}),
        V2_START + b"\x20\x00\0\0",
        V2_START + b"\x21\x11\0\0",
        V2_START + b"\x21\x31\0\x0c" + bytes(12),
        build_v2(packed(SOURCE, DESTINATION), {0xE4: b"x", 0xE5: b"y" * 40}),
    ],
)
def test_a55_unsigned_and_broken_headers_are_not_believed(header: bytes) -> None:
    with pytest.raises((TrustError, ProtocolError)):
        verifier().verify(header)


def test_a_balancers_header_of_either_version_is_read() -> None:
    reader = PlainHeaderReader()
    assert reader.verify(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n") == SOURCE
    assert reader.verify(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n") == ("2001:db8::7", 1)
    assert reader.verify(b"PROXY UNKNOWN\r\n") is None
    assert reader.verify(build_v2(packed(SOURCE, DESTINATION), {})) == SOURCE
    for bad in (b"PROXY TCP4 a b c d\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 1\r\n", b"PROXY \r\n"):
        with pytest.raises(ProtocolError):
            reader.verify(bad)


def test_lengths_are_bounded() -> None:
    assert header_length(b"PROXY TCP4 1") is None
    assert header_length(V2_START + b"\x21") is None
    with pytest.raises(ProtocolError):
        header_length(b"PROXY " + b"x" * 200)
    with pytest.raises(ProtocolError):
        header_length(V2_START + b"\x21\x11\xff\xff")


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(tail=st.binary(max_size=120), cut=st.integers(0, 200))
def test_no_bytes_break_the_readers(tail: bytes, cut: int) -> None:
    for header in (V2_START + tail, b"PROXY " + tail, signed()[:cut] + tail):
        for check in (verifier(), PlainHeaderReader()):
            try:
                check.verify(header)
            except AccessError:
                continue
