"""TLS certificates: what goes in comes out, and which leaf is who."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from cryptography import x509 as cx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import DeniedError, InputError, TrustError
from pkgs.common.pki import authority, certspec, keys, sshcert, x509, x509name
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.signer import TlsSigner, signers_of
from pkgs.common.pki.trust import Trust
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under

NOW = 1_800_000_000.0
HOST_ID = "11111111-2222-4333-8444-555555555555"
CAS = {kind: authority.new_authority(kind, "demo", NOW) for kind in ("user", "host", "db")}
TRUST = Trust.from_authorities(CAS.values())
KEY = keys.new_tls_key()
SSH_KEY = keys.new_ssh_key()


def tls_signer(kind: str) -> TlsSigner:
    signer = signers_of(CAS[kind]).tls  # type: ignore[index]
    assert signer is not None
    return signer


USER_CA, HOST_CA = tls_signer("user"), tls_signer("host")


def user_spec(**changes: Any) -> UserCertSpec:
    fields: dict[str, Any] = {
        "user": "alice",
        "cluster": "demo",
        "roles": ("access", "editor"),
        "traits": {"logins": ("root", "a,b")},
        "logins": ("root", "alice"),
        "valid_after": NOW - 60,
        "valid_before": NOW + 3600,
    }
    return UserCertSpec(**{**fields, **changes})


def host_spec(**changes: Any) -> HostCertSpec:
    fields: dict[str, Any] = {
        "host_id": HOST_ID,
        "node_name": "node-1",
        "cluster": "demo",
        "system_roles": (SystemRole.NODE,),
        "valid_after": NOW - 60,
    }
    return HostCertSpec(**{**fields, **changes})


def der(pem: str) -> bytes:
    return cx.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def verify(pem: str, **kwargs: Any) -> Identity:
    return x509.verify_peer(der(pem), trust=TRUST, now=kwargs.pop("now", NOW), **kwargs)


FULL = {
    "source_addr": "10.0.0.5",
    "login_ip": "10.0.0.9",
    "route_to_cluster": "leaf",
    "previous_expires_at": NOW + 100,
    "mfa_device": "device-1",
    "impersonator": "bob",
    "disallow_reissue": True,
    "active_requests": ("r1", "r2"),
    "allowed_resources": ("/demo/node/x",),
    "device_id": "device-2",
    "device_asset_tag": "C02ABC",
    "bot_name": "ci",
    "bot_instance_id": "instance-1",
    "join_token": "github-ci",
    "renewable": True,
    "generation": 7,
    "serial": 77,
}


def test_user_identity_comes_back_whole_from_both_certificates() -> None:
    spec = user_spec(**FULL)
    from_tls = verify(x509.sign_user_tls(USER_CA, spec, KEY.public_pem))
    signer = signers_of(CAS["user"]).ssh
    assert signer is not None
    line = sshcert.sign_user_cert(signer, spec, SSH_KEY.public_line)
    from_ssh = sshcert.verify_user_cert(
        sshcert.line_to_blob(line), trust=TRUST, login="root", source_addr="10.0.0.5", now=NOW
    )
    for identity in (from_tls, from_ssh):
        assert identity.kind is PeerKind.USER
        assert (identity.name, identity.cluster) == ("alice", "demo")
        assert identity.roles == ("access", "editor")
        assert identity.traits == {"logins": ("root", "a,b")}
        assert identity.logins == ("root", "alice")
        assert identity.expires_at == NOW + 3600
        for field, value in FULL.items():
            assert getattr(identity, field) == value, field
    again = certspec.spec_from_identity(from_ssh, valid_after=NOW, valid_before=NOW + 60)
    assert again.disallow_reissue
    assert again.allowed_resources == ("/demo/node/x",)


def test_empty_restriction_to_resources_stays_a_restriction() -> None:
    identity = verify(x509.sign_user_tls(USER_CA, user_spec(allowed_resources=()), KEY.public_pem))
    assert identity.allowed_resources == ()


def test_oldssh_leaves_four_extensions_out() -> None:
    signer = signers_of(CAS["user"]).ssh
    assert signer is not None
    spec = user_spec(oldssh=True, active_requests=("r",), mfa_device="d")
    line = sshcert.sign_user_cert(signer, spec, SSH_KEY.public_line)
    names = set(sshcert.unverified_facts(sshcert.line_to_blob(line)).extensions)
    assert names == {"permit-pty", "mfa-verified"}


def test_host_identity_and_its_names() -> None:
    spec = host_spec(
        system_roles=(SystemRole.PROXY, SystemRole.NODE), additional_principals=("proxy.example.com",)
    )
    pem = x509.sign_host_tls(HOST_CA, spec, KEY.public_pem)
    identity = verify(pem)
    assert identity.host_id == HOST_ID
    assert identity.system_roles == (SystemRole.PROXY, SystemRole.NODE)
    assert identity.expires_at == math.inf
    san = cx.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(
        cx.SubjectAlternativeName
    )
    names = set(san.value.get_values_for_type(cx.DNSName))
    assert names >= {f"{HOST_ID}.demo", "node-1", "proxy.example.com", "proxy.teleport.cluster.local"}
    assert "node.teleport.cluster.local" in names
    assert "auth.teleport.cluster.local" not in names
    assert len(san.value.get_values_for_type(cx.IPAddress)) == 2


def test_long_cluster_name() -> None:
    cluster = "a-very-long-cluster-name." + "x" * 60 + ".example.com"
    ca = authority.new_authority("host", cluster, NOW)
    signer = signers_of(ca).tls
    assert signer is not None
    pem = x509.sign_host_tls(signer, host_spec(cluster=cluster), KEY.public_pem)
    identity = x509.verify_peer(der(pem), trust=Trust.from_authorities([ca]), now=NOW)
    assert (identity.host_id, identity.cluster) == (HOST_ID, cluster)


@pytest.mark.parametrize(
    "name",
    ["auth.teleport.cluster.local", "x.Teleport.Cluster.Local", "teleport.cluster.local", "a b", "*", ""],
)
def test_nobody_asks_for_a_role_name_or_nonsense(name: str) -> None:
    with pytest.raises(InputError):
        x509.sign_host_tls(HOST_CA, host_spec(additional_principals=(name,)), KEY.public_pem)
    with pytest.raises(InputError):
        x509.sign_web_tls(HOST_CA, [name], KEY.public_pem, valid_after=NOW, valid_before=NOW + 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"host_id": "x"},
        {"host_id": HOST_ID.upper().replace("1", "A")},
        {"system_roles": ()},
        {"valid_before": NOW - 90},
    ],
)
def test_host_specs_that_are_never_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        x509.sign_host_tls(HOST_CA, host_spec(**changes), KEY.public_pem)


@pytest.mark.parametrize(
    "changes",
    [
        {"user": ""},
        {"user": "a b"},
        {"user": "-x"},
        {"user": "x" * 65},
        {"user": "a\u202eb"},
        {"logins": tuple(f"u{i}" for i in range(257))},
        {"valid_before": math.inf},
        {"roles": ()},
        {"source_addr": "10.0.0.0/8"},
    ],
)
def test_user_specs_that_are_never_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        x509.sign_user_tls(USER_CA, user_spec(**changes), KEY.public_pem)


def test_web_certificate_is_nobody() -> None:
    pem = x509.sign_web_tls(
        HOST_CA, ["localhost", "127.0.0.1"], KEY.public_pem, valid_after=NOW, valid_before=NOW + 9
    )
    with pytest.raises(TrustError):
        verify(pem, now=NOW + 1)
    with pytest.raises(InputError):
        x509.sign_web_tls(HOST_CA, [], KEY.public_pem, valid_after=NOW, valid_before=NOW + 9)


def test_pinned_certificate_is_checked_where_the_address_is_known() -> None:
    pem = x509.sign_user_tls(USER_CA, user_spec(source_addr="10.0.0.5"), KEY.public_pem)
    assert verify(pem).source_addr == "10.0.0.5"
    assert verify(pem, source_addr="::ffff:10.0.0.5")
    with pytest.raises(DeniedError):
        verify(pem, source_addr="10.0.0.6")


@pytest.mark.parametrize("when", [NOW - 91, NOW + 3600, NOW + 99999])
def test_outside_its_life(when: float) -> None:
    pem = x509.sign_user_tls(USER_CA, user_spec(), KEY.public_pem)
    with pytest.raises(TrustError):
        verify(pem, now=when)


class Leaf:
    """A leaf made by hand, with anything wrong in it."""

    def __init__(self, signer: TlsSigner, name: cx.Name, **changes: Any) -> None:
        self.signer, self.name, self.changes = signer, name, changes

    def der(self) -> bytes:
        c = self.changes
        key = c.get("key") or ec.generate_private_key(ec.SECP256R1()).public_key()
        builder = (
            cx.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(c.get("issuer", self.signer.cert.subject))
            .public_key(key)
            .serial_number(5)
            .not_valid_before(datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC))
            .not_valid_after(c.get("ends", datetime.datetime.fromtimestamp(NOW + 60, datetime.UTC)))
        )
        if "basic" not in c:
            c["basic"] = cx.BasicConstraints(ca=False, path_length=None)
        if c["basic"] is not None:
            builder = builder.add_extension(c["basic"], critical=True)
        usages = c.get("usages", [ExtendedKeyUsageOID.CLIENT_AUTH])
        if usages:
            builder = builder.add_extension(cx.ExtendedKeyUsage(usages), critical=False)
        for extension, critical in c.get("extra", []):
            builder = builder.add_extension(extension, critical=critical)
        signed = builder.sign(c.get("ca_key", self.signer._key), c.get("digest", hashes.SHA256()))
        return signed.public_bytes(Encoding.DER)


def names(*pairs: tuple[Any, str]) -> cx.Name:
    return cx.Name([cx.NameAttribute(oid, value) for oid, value in pairs])


ALICE = names((NameOID.COMMON_NAME, "alice"), (NameOID.ORGANIZATION_NAME, "access"))
NODE = names((NameOID.COMMON_NAME, f"{HOST_ID}.demo"), (NameOID.ORGANIZATION_NAME, "Node"))
SAN = cx.SubjectAlternativeName([cx.DNSName("auth.teleport.cluster.local")])
NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def test_hand_made_leaves_are_believed_when_right() -> None:
    assert x509.verify_peer(Leaf(USER_CA, ALICE).der(), trust=TRUST, now=NOW).name == "alice"
    identity = x509.verify_peer(Leaf(HOST_CA, NODE).der(), trust=TRUST, now=NOW)
    assert identity.is_host(SystemRole.NODE)


@pytest.mark.parametrize(
    "leaf",
    [
        # a user-CA leaf that claims host things is no host, and no user either
        Leaf(USER_CA, NODE, extra=[(SAN, False)]),
        Leaf(USER_CA, names(*((a.oid, str(a.value)) for a in NODE), (x509name.SYSTEM_ROLE, "Auth"))),
        Leaf(USER_CA, ALICE, extra=[(SAN, False)]),
        # a host-CA leaf that claims user things
        Leaf(HOST_CA, ALICE),
        Leaf(HOST_CA, names(*((a.oid, str(a.value)) for a in NODE), (NameOID.LOCALITY_NAME, "root"))),
        Leaf(HOST_CA, names((NameOID.COMMON_NAME, f"{HOST_ID}.demo"), (NameOID.ORGANIZATION_NAME, "Root"))),
        Leaf(HOST_CA, names((NameOID.COMMON_NAME, f"{HOST_ID}.demo"))),
        Leaf(HOST_CA, names((NameOID.COMMON_NAME, f"{HOST_ID}.other"), (NameOID.ORGANIZATION_NAME, "Node"))),
        # the wrong authority
        Leaf(tls_signer("db"), ALICE),
        Leaf(USER_CA, ALICE, ca_key=ec.generate_private_key(ec.SECP256R1())),
        Leaf(USER_CA, ALICE, issuer=names((NameOID.COMMON_NAME, "else"))),
        # the wrong purpose, time or strength
        Leaf(USER_CA, ALICE, usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        Leaf(USER_CA, ALICE, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        Leaf(USER_CA, ALICE, usages=[]),
        Leaf(USER_CA, ALICE, basic=None),
        Leaf(USER_CA, ALICE, basic=cx.BasicConstraints(ca=True, path_length=None)),
        Leaf(USER_CA, ALICE, key=rsa.generate_private_key(65537, 1024).public_key()),
        Leaf(USER_CA, ALICE, key=x448.X448PrivateKey.generate().public_key()),
        Leaf(USER_CA, ALICE, ends=NEVER),
        Leaf(
            USER_CA,
            ALICE,
            extra=[(cx.UnrecognizedExtension(cx.ObjectIdentifier("1.3.9999.9.9"), b"\5\0"), True)],
        ),
        # the subject
        Leaf(USER_CA, names((NameOID.COMMON_NAME, "alice"))),
        Leaf(USER_CA, names((NameOID.ORGANIZATION_NAME, "access"))),
        Leaf(USER_CA, names((NameOID.COMMON_NAME, "a b"), (NameOID.ORGANIZATION_NAME, "access"))),
        Leaf(USER_CA, names(*((a.oid, str(a.value)) for a in ALICE), (NameOID.COMMON_NAME, "bob"))),
        Leaf(USER_CA, names(*((a.oid, str(a.value)) for a in ALICE), (NameOID.POSTAL_CODE, "no json"))),
        Leaf(USER_CA, names(*((a.oid, str(a.value)) for a in ALICE), (x509name.ALLOWED_RESOURCES, "*"))),
        Leaf(USER_CA, names(*((a.oid, str(a.value)) for a in ALICE), (x509name.HOME_CLUSTER, "other"))),
    ],
)
def test_leaves_that_are_refused(leaf: Leaf) -> None:
    with pytest.raises(TrustError):
        x509.verify_peer(leaf.der(), trust=TRUST, now=NOW)


DER = Leaf(USER_CA, ALICE).der()


@pytest.mark.fuzz
@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=examples(100))
def test_changed_bytes_are_never_believed(edits: list[tuple[int, int]]) -> None:
    changed = bytearray(DER)
    for at, value in edits:
        changed[at] = value
    if bytes(changed) != DER:
        with pytest.raises(TrustError):
            x509.verify_peer(bytes(changed), trust=TRUST, now=NOW)


def test_a16_weak_and_unknown_signature_algorithms() -> None:
    """The algorithm's OID (ecdsa-with-SHA256, at the end and inside) changed to SHA-1's and to nobody's."""
    good = bytes.fromhex("2a8648ce3d040302")
    for other in ("2a8648ce3d040302", "2a8648ce3d0401", "2a8648ce3d0403ff"):
        oid = bytes.fromhex(other)
        raw = DER.replace(good, oid) if len(oid) == len(good) else DER.replace(b"\x08" + good, b"\x07" + oid)
        if oid != good:
            with pytest.raises(TrustError):
                x509.verify_peer(raw, trust=TRUST, now=NOW)
    rsa_key = rsa.generate_private_key(65537, 2048)
    pem = rsa_key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signer = TlsSigner.load(x509.new_ca("demo", pem, now=NOW), pem)
    sha1 = bytes.fromhex("2a864886f70d010105")
    raw = Leaf(signer, ALICE).der().replace(bytes.fromhex("2a864886f70d01010b"), sha1)
    with pytest.raises(TrustError) as caught:
        x509.verify_peer(raw, trust=TRUST, now=NOW)
    assert "weak" in caught.value.detail


def test_a_name_that_is_no_text() -> None:
    raw = DER.replace(b"\x0c\x05alice", b"\x0c\x05al\xff\xfee")
    with pytest.raises(TrustError):
        x509.verify_peer(raw, trust=TRUST, now=NOW)


@pytest.mark.parametrize("raw", [b"", b"x", b"0" * 70_000])
def test_bytes_that_are_no_certificate(raw: bytes) -> None:
    with pytest.raises(TrustError):
        x509.verify_peer(raw, trust=TRUST, now=NOW)


def test_the_authority_itself_is_nobody() -> None:
    with pytest.raises(TrustError):
        x509.verify_peer(USER_CA.cert.public_bytes(Encoding.DER), trust=TRUST, now=NOW)
    public = USER_CA.cert.public_key().public_bytes(
        Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError):
        x509.sign_user_tls(USER_CA, user_spec(), public.decode())


def test_role_names() -> None:
    assert x509.role_dns_name(SystemRole.AUTH) == "auth.teleport.cluster.local"


def test_issuing_is_fast_enough_by_far() -> None:
    """The target is 300 pairs a second on a core; this only notices a slip of an order of magnitude."""
    signer = signers_of(CAS["user"]).ssh
    assert signer is not None
    spec = user_spec()

    def issue() -> None:
        for _ in range(60):
            sshcert.sign_user_cert(signer, spec, SSH_KEY.public_line)
            x509.sign_user_tls(USER_CA, spec, KEY.public_pem)

    assert_takes_under(60 / 100, issue)
