"""The PROXY protocol header: who the client behind a relay is.

Between our own parts the header is version 2 and signed: a TLV carries the proxy's host certificate, another
a time, a nonce and a signature with that certificate's key over the addresses and over whom it is meant for.
Whoever receives it believes the address only if the signer is a Proxy of this cluster, and the header is
meant for the receiver, fresh and new (attack A55): an agent that is shown a header cannot pass it on.
From a load balancer (`proxy_protocol: on`) a plain header of version 1 or 2 is read instead.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pkgs.common.errors import AccessError, TrustError
from pkgs.common.net import limits
from pkgs.common.net.proxyproto.header import (
    V2_START,
    Endpoint,
    PlainHeaderReader,
    build_v2,
    packed,
    parse_v2,
)
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import verify_peer

_TLV_CERTIFICATE = 0xE4
_TLV_PROOF = 0xE5
_PROOF_VERSION = 1
_PROOF_FIXED = 1 + 8 + 16
_LABEL = b"proxy header of an access cluster, version 1\0"
FOR_AUTH = "auth"
"""The audience of headers for an Auth Service; a header for an agent is meant for its host id."""

__all__ = ["FOR_AUTH", "HeaderSigner", "PlainHeaderReader", "ProxyVerifier"]


def _signed(block: bytes, proof: bytes, cluster: str, audience: str) -> bytes:
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (cluster.encode(), audience.encode()))
    return _LABEL + names + block + proof


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

    def sign(self, *, source: Endpoint, destination: Endpoint, audience: str, now: float) -> bytes:
        """A whole header. Both ends are IP addresses; the destination is where the header is sent, and the
        audience who alone shall believe it."""
        block = packed(source, destination)
        proof = bytes([_PROOF_VERSION]) + int(now * 1000).to_bytes(8, "big") + secrets.token_bytes(16)
        signature = self._key.sign(_signed(block, proof, self._cluster, audience), ec.ECDSA(hashes.SHA256()))
        return build_v2(block, {_TLV_CERTIFICATE: self._der, _TLV_PROOF: proof + signature})


class ProxyVerifier:
    """Believes headers that a Proxy of this cluster signed for `audience`: fresh, and each one once."""

    required = False

    def __init__(self, trust: Callable[[], Trust], now: Callable[[], float], *, audience: str) -> None:
        self._trust = trust
        self._now = now
        self._audience = audience
        self._nonces: OrderedDict[bytes, float] = OrderedDict()

    def verify(self, header: bytes) -> Endpoint:
        """The client's address. Raises TrustError for every header that is not to be believed."""
        if not header.startswith(V2_START):
            raise TrustError("an unsigned PROXY header is not believed")
        parsed = parse_v2(header)
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
            key.verify(signature, _signed(block, fixed, cluster, self._audience), ec.ECDSA(hashes.SHA256()))
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
