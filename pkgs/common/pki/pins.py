"""CA pins: `sha256:<hex>` of the public key of a host authority's TLS certificate."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pkgs.common.errors import InputError, TrustError

_PIN = re.compile(r"sha256:[0-9a-f]{64}")


def pin_of(cert: x509.Certificate) -> str:
    """The pin of a CA certificate."""
    spki = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def pin_of_cert(pem: str) -> str:
    """The pin of a CA certificate in PEM."""
    try:
        return pin_of(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError as error:
        raise InputError("not a PEM certificate") from error


def parse_pin(pin: str) -> str:
    """A pin in canonical form; raises InputError for anything else."""
    lowered = pin.strip().lower()
    if not _PIN.fullmatch(lowered):
        raise InputError("CA pin is not valid", hint="expected sha256: and 64 hexadecimal digits")
    return lowered


def check_pin(cert_pems: Iterable[str], pins: Iterable[str]) -> None:
    """Every certificate must match one of the pins, and there must be one; raises TrustError. Attack A38."""
    wanted = [parse_pin(pin) for pin in pins]
    found = [pin_of_cert(pem) for pem in cert_pems]
    matches = [any(hmac.compare_digest(have, want) for want in wanted) for have in found]
    if not matches or not all(matches):
        raise TrustError(
            "the cluster's host authority does not match the CA pin",
            hint="compare with `tctl status` on the Auth host",
            detail=f"found {found}",
        )
