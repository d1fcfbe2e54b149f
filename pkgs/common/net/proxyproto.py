"""The PROXY protocol header: who the client behind a relay is.

Between our own parts the header is version 2 and signed: a TLV carries the proxy's host certificate, another
a time, a nonce and a signature with that certificate's key over the addresses. Whoever receives it believes
the address only if the signer is a Proxy of this cluster and the header is fresh and new (attack A55).
From a load balancer (`proxy_protocol: on`) a plain header of version 1 or 2 is read instead.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pkgs.common.errors import AccessError, ProtocolError, TrustError
from pkgs.common.net import limits
from pkgs.common.net.sockets import plain_ip
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import verify_peer

V1_START = b"PROXY "
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V1_MAX = 107
_V2_FIXED = 16
_VERSION_LOCAL = 0x20
_VERSION_PROXY = 0x21
_TCP4 = 0x11
_TCP6 = 0x21
_ADDRESS_LENGTH = {_TCP4: 12, _TCP6: 36}
_TLV_CERTIFICATE = 0xE4
_TLV_PROOF = 0xE5
_PROOF_VERSION = 1
_PROOF_FIXED = 1 + 8 + 16
_LABEL = b"proxy header of an access cluster, version 1\0"

Endpoint = tuple[str, int]
"""IP address and port."""


def header_length(start: bytes) -> int | None:
    """Length of the PROXY header that begins with these bytes; None when more are needed to tell."""
    if start.startswith(V2_START):
        if len(start) < _V2_FIXED:
            return None
        length = _V2_FIXED + int.from_bytes(start[14:16], "big")
        if length > limits.PROXY_HEADER_MAX:
            raise ProtocolError("the PROXY header is too long")
        return length
    end = start.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(start) >= _V1_MAX:
            raise ProtocolError("the PROXY header is too long")
        return None
    return end + 2


@dataclass(frozen=True, slots=True)
class _Parsed:
    source: Endpoint | None
    block: bytes
    """Family byte and address block, as signed."""
    tlvs: dict[int, bytes]


def _packed(source: Endpoint, destination: Endpoint) -> bytes:
    """Family byte and address block for these two ends; a destination of the other family is left out."""
    from_ip, to_ip = (ipaddress.ip_address(plain_ip(one[0])) for one in (source, destination))
    family = _TCP4 if from_ip.version == 4 else _TCP6
    to_bytes = to_ip.packed if to_ip.version == from_ip.version else bytes(len(from_ip.packed))
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    return bytes([family]) + from_ip.packed + to_bytes + ports


def _parse_v2(header: bytes) -> _Parsed:
    if len(header) < _V2_FIXED or not header.startswith(V2_START) or header_length(header) != len(header):
        raise ProtocolError("the PROXY header is malformed")
    command, family = header[12], header[13]
    if command == _VERSION_LOCAL:
        return _Parsed(None, b"", {})
    length = _ADDRESS_LENGTH.get(family)
    if command != _VERSION_PROXY or length is None or len(header) < _V2_FIXED + length:
        raise ProtocolError("the PROXY header is malformed")
    addresses = header[_V2_FIXED : _V2_FIXED + length]
    width = 4 if family == _TCP4 else 16
    ip = ipaddress.ip_address(addresses[:width])
    port = int.from_bytes(addresses[2 * width : 2 * width + 2], "big")
    return _Parsed(
        (plain_ip(str(ip)), port), bytes([family]) + addresses, _tlvs(header[_V2_FIXED + length :])
    )


def _tlvs(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        if at + 3 > len(raw):
            raise ProtocolError("the PROXY header is malformed")
        kind, length = raw[at], int.from_bytes(raw[at + 1 : at + 3], "big")
        if at + 3 + length > len(raw) or kind in found:
            raise ProtocolError("the PROXY header is malformed")
        found[kind] = raw[at + 3 : at + 3 + length]
        at += 3 + length
    return found


def _parse_v1(header: bytes) -> Endpoint | None:
    words = header.removesuffix(b"\r\n").decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProtocolError("the PROXY header is malformed")
    try:
        ip = ipaddress.ip_address(words[2])
    except ValueError as exc:
        raise ProtocolError("the PROXY header is malformed") from exc
    port = words[4]
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535 or ip.version != int(words[1][3]):
        raise ProtocolError("the PROXY header is malformed")
    return plain_ip(str(ip)), int(port)


def _signed(block: bytes, proof: bytes, cluster: str) -> bytes:
    name = cluster.encode()
    return _LABEL + len(name).to_bytes(2, "big") + name + block + proof


class HeaderSigner:
    """Signs headers with a proxy's host certificate; loads the key once."""

    def __init__(self, *, cert_pem: str | bytes, key_pem: str | bytes, cluster: str) -> None:
        cert = cert_pem.encode("ascii") if isinstance(cert_pem, str) else cert_pem
        key = key_pem.encode("ascii") if isinstance(key_pem, str) else key_pem
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TrustError("PROXY headers are signed with an ECDSA host key")
        self._key = loaded
        self._der = x509.load_pem_x509_certificate(cert).public_bytes(serialization.Encoding.DER)
        self._cluster = cluster

    def sign(self, *, source: Endpoint, destination: Endpoint, now: float) -> bytes:
        """A whole header. Both ends are IP addresses; the destination is where the header is sent."""
        block = _packed(source, destination)
        proof = bytes([_PROOF_VERSION]) + int(now * 1000).to_bytes(8, "big") + secrets.token_bytes(16)
        signature = self._key.sign(_signed(block, proof, self._cluster), ec.ECDSA(hashes.SHA256()))
        tlvs = b"".join(
            bytes([kind]) + len(value).to_bytes(2, "big") + value
            for kind, value in ((_TLV_CERTIFICATE, self._der), (_TLV_PROOF, proof + signature))
        )
        body = block[1:] + tlvs
        header = V2_START + bytes([_VERSION_PROXY, block[0]]) + len(body).to_bytes(2, "big") + body
        if len(header) > limits.PROXY_HEADER_MAX:
            raise ValueError("the host certificate is too long for a PROXY header")
        return header


def sign_header(
    *,
    source: Endpoint,
    destination: Endpoint,
    cert_pem: str | bytes,
    key_pem: str | bytes,
    cluster: str,
    now: float,
) -> bytes:
    """One signed header, where keeping a `HeaderSigner` is not worth it."""
    signer = HeaderSigner(cert_pem=cert_pem, key_pem=key_pem, cluster=cluster)
    return signer.sign(source=source, destination=destination, now=now)


class ProxyVerifier:
    """Believes headers signed by a Proxy of this cluster: fresh, and each one once."""

    required = False

    def __init__(self, trust: Callable[[], Trust], now: Callable[[], float]) -> None:
        self._trust = trust
        self._now = now
        self._nonces: OrderedDict[bytes, float] = OrderedDict()

    def verify(self, header: bytes) -> Endpoint:
        """The client's address. Raises TrustError for every header that is not to be believed."""
        if not header.startswith(V2_START):
            raise TrustError("an unsigned PROXY header is not believed")
        parsed = _parse_v2(header)
        der, proof = parsed.tlvs.get(_TLV_CERTIFICATE), parsed.tlvs.get(_TLV_PROOF)
        if parsed.source is None or der is None or proof is None:
            raise TrustError("an unsigned PROXY header is not believed")
        if len(proof) <= _PROOF_FIXED or proof[0] != _PROOF_VERSION:
            raise TrustError("the PROXY header carries an unknown proof")
        trust, now = self._trust(), self._now()
        try:
            signer = verify_peer(der, trust=trust, now=now)
        except AccessError as exc:
            raise TrustError("the PROXY header is signed by nobody we trust", detail=exc.message) from exc
        if not signer.is_host(SystemRole.PROXY) or signer.cluster != trust.cluster_name:
            raise TrustError("the PROXY header is signed by somebody who is no proxy of this cluster")
        self._check_signature(der, parsed.block, proof, trust.cluster_name)
        self._check_fresh(proof, now)
        return parsed.source

    def _check_signature(self, der: bytes, block: bytes, proof: bytes, cluster: str) -> None:
        fixed, signature = proof[:_PROOF_FIXED], proof[_PROOF_FIXED:]
        key = x509.load_der_x509_certificate(der).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TrustError("the PROXY header is signed with a key of the wrong kind")
        try:
            key.verify(signature, _signed(block, fixed, cluster), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as exc:
            raise TrustError("the signature of the PROXY header is wrong") from exc

    def _check_fresh(self, proof: bytes, now: float) -> None:
        signed_at = int.from_bytes(proof[1:9], "big") / 1000
        nonce = proof[9:_PROOF_FIXED]
        if abs(now - signed_at) > limits.PROXY_HEADER_FRESH_S:
            raise TrustError("the PROXY header is too old, or the clocks differ by more than a minute")
        while self._nonces:
            oldest, until = next(iter(self._nonces.items()))
            if until > now:
                break
            del self._nonces[oldest]
        if nonce in self._nonces or len(self._nonces) >= limits.PROXY_NONCES_MAX:
            raise TrustError("the PROXY header was used before")
        self._nonces[nonce] = now + 2 * limits.PROXY_HEADER_FRESH_S


class PlainHeaderReader:
    """Reads the header of a load balancer in front of us (`proxy_protocol: on`): one is required."""

    required = True

    def verify(self, header: bytes) -> Endpoint | None:
        """The client's address, or None when the balancer speaks for itself (health checks)."""
        return _parse_v2(header).source if header.startswith(V2_START) else _parse_v1(header)
