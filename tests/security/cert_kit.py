"""Crafting SSH certificates byte by byte, right and wrong, without the code under test."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CaKeySet, CaType, CertAuthority, CertAuthoritySpec, SshKeyPair
from pkgs.common.resources.metadata import Metadata

NOW = 1_800_000_000.0
FOREVER = 2**64 - 1
CLUSTER = "demo"


def s(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def mpint(value: int) -> bytes:
    return s(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def key_fields(public: Any) -> tuple[str, bytes]:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ssh-ed25519", s(public.public_bytes_raw())
    numbers = public.public_numbers()
    if isinstance(public, rsa.RSAPublicKey):
        return "ssh-rsa", mpint(numbers.e) + mpint(numbers.n)
    size = (public.key_size + 7) // 8
    point = b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
    name = f"nistp{public.key_size}"
    return f"ecdsa-sha2-{name}", s(name) + s(point)


def plain_blob(public: Any) -> bytes:
    kind, fields = key_fields(public)
    return s(kind) + fields


def line_of(blob: bytes) -> str:
    size = struct.unpack(">I", blob[:4])[0]
    return f"{blob[4 : 4 + size].decode()} {base64.b64encode(blob).decode()}"


def options(*pairs: tuple[str, str | bytes | None]) -> bytes:
    """Packed options; None is an empty flag, bytes are put in undecoded."""
    out = b""
    for name, value in pairs:
        data = b"" if value is None else value if isinstance(value, bytes) else s(value)
        out += s(name) + s(data)
    return out


ED_CA = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_CA = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
HOST_CA = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
USER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x04" * 32)


def signature(key: Any, data: bytes, algorithm: str = "") -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return s(algorithm or "ssh-ed25519") + s(key.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = algorithm or "rsa-sha2-512"
        digest: Any = {"ssh-rsa": hashes.SHA1, "rsa-sha2-256": hashes.SHA256, "rsa-sha2-512": hashes.SHA512}
        return s(algorithm) + s(key.sign(data, padding.PKCS1v15(), digest[algorithm]()))
    digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
    r, t = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return s(algorithm or f"ecdsa-sha2-nistp{key.key_size}") + s(mpint(r) + mpint(t))


@dataclass(frozen=True)
class Craft:
    """A certificate to be; every field may be wrong."""

    ca: Any = ED_CA
    key: Any = field(default_factory=USER_KEY.public_key)
    cert_type: int = 1
    key_id: str = "alice"
    principals: Sequence[str | bytes] = ("root", "alice")
    packed_principals: bytes | None = None
    valid_after: int = int(NOW) - 60
    valid_before: int = int(NOW) + 3600
    critical: bytes = b""
    extensions: bytes = field(
        default_factory=lambda: options(
            ("permit-pty", None),
            ("teleport-roles", '{"version":"v1","roles":["access"]}'),
            ("teleport-traits", '{"logins":["root"]}'),
        )
    )
    reserved: bytes = b""
    signer_field: bytes | None = None
    algorithm: str = ""
    kind: str = ""
    serial: int = 7
    tail: bytes = b""
    flip: int = 0

    def but(self, **changes: Any) -> Craft:
        return replace(self, **changes)

    def blob(self) -> bytes:
        kind, fields = key_fields(self.key)
        packed = self.packed_principals
        if packed is None:
            packed = b"".join(s(p) for p in self.principals)
        body = (
            s(self.kind or f"{kind}-cert-v01@openssh.com")
            + s(b"n" * 32)
            + fields
            + struct.pack(">QI", self.serial, self.cert_type)
            + s(self.key_id)
            + s(packed)
            + struct.pack(">QQ", self.valid_after, self.valid_before)
            + s(self.critical)
            + s(self.extensions)
            + s(self.reserved)
            + s(self.signer_field if self.signer_field is not None else plain_blob(self.ca.public_key()))
        )
        signed = bytearray(signature(self.ca, body, self.algorithm))
        if self.flip:
            signed[-self.flip] ^= 1
        return body + s(bytes(signed)) + self.tail


def authority(ca_type: CaType, *keys: Any, cluster: str = CLUSTER) -> CertAuthority:
    pairs = [SshKeyPair(public_key=line_of(plain_blob(key.public_key()))) for key in keys]
    return CertAuthority(
        metadata=Metadata(name=cluster),
        sub_kind=ca_type,
        spec=CertAuthoritySpec(type=ca_type, cluster_name=cluster, active_keys=CaKeySet(ssh=pairs)),
    )


TRUST = Trust.from_authorities([authority("user", ED_CA), authority("host", HOST_CA)])
