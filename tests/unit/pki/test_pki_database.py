"""Routes to databases in certificates, and the certificates that databases believe."""

from __future__ import annotations

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.errors import InputError, TrustError
from pkgs.common.pki import sshcert, x509, x509name
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec, spec_from_identity
from pkgs.common.pki.identity import RouteToDatabase, SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.trust import Trust

NOW = 1_800_000_000.0
USER_CA, HOST_CA = (new_authority(kind, "demo", NOW) for kind in ("user", "host"))
CLIENT_CA, SERVER_CA = (new_authority(kind, "demo", NOW) for kind in ("db_client", "db"))
TRUST = Trust.from_authorities([USER_CA, HOST_CA, CLIENT_CA, SERVER_CA], "demo")
KEY = new_tls_key()
ROUTE = RouteToDatabase(service="orders", protocol="postgres", user="alice", database="app", roles=("r",))


def spec(route: RouteToDatabase | None = ROUTE) -> UserCertSpec:
    return UserCertSpec(
        user="ann",
        cluster="demo",
        roles=("dba",),
        logins=("no-login-x",),
        valid_after=NOW - 60,
        valid_before=NOW + 600,
        mfa_device="device",
        route_to_database=route,
    )


def signed(of: UserCertSpec) -> cx509.Certificate:
    signer = signers_of(USER_CA).tls
    assert signer is not None
    return cx509.load_pem_x509_certificate(x509.sign_user_tls(signer, of, KEY.public_pem).encode())


def seen(cert: cx509.Certificate) -> RouteToDatabase | None:
    return x509.verify_peer(cert.public_bytes(Encoding.DER), trust=TRUST, now=NOW).route_to_database


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)


@given(
    service=NAMES,
    protocol=NAMES,
    user=st.just("") | NAMES,
    roles=st.none() | st.lists(NAMES, max_size=4).map(tuple),
)
def test_a_route_is_read_as_it_was_written(
    service: str, protocol: str, user: str, roles: tuple[str, ...] | None
) -> None:
    route = RouteToDatabase(service=service, protocol=protocol, user=user, roles=roles)
    assert seen(signed(spec(route))) == route


def test_it_keeps_the_mark_of_a_second_factor() -> None:
    der = signed(spec()).public_bytes(Encoding.DER)
    identity = x509.verify_peer(der, trust=TRUST, now=NOW)
    assert (identity.route_to_database, identity.mfa_device) == (ROUTE, "device")


def test_half_a_route_is_no_certificate() -> None:
    """Something that cannot be read must not become a certificate without a restriction."""
    signer = signers_of(USER_CA).tls
    assert signer is not None
    name = x509name.user_name(spec(None))
    for oid in (x509name.DB_SERVICE, x509name.DB_PROTOCOL, x509name.DB_USER, x509name.DB_ROLES):
        half = cx509.Name([*name, cx509.NameAttribute(oid, "x")])
        builder = x509._leaf(
            signer,
            half,
            KEY_OBJECT,
            NOW - 60,
            NOW + 600,
            0,
            cx509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        )
        with pytest.raises(TrustError):
            seen(signer.sign(builder))


KEY_OBJECT = cx509.load_pem_x509_certificate(x509.new_ca("x", KEY.private_pem, now=NOW).encode()).public_key()


def test_a34_there_is_no_way_from_it_to_another_certificate() -> None:
    identity = x509.verify_peer(signed(spec()).public_bytes(Encoding.DER), trust=TRUST, now=NOW)
    with pytest.raises(InputError, match="not reissued"):
        spec_from_identity(identity, valid_after=NOW)
    ssh = signers_of(USER_CA).ssh
    assert ssh is not None
    with pytest.raises(InputError, match="no SSH form"):
        sshcert.sign_user_cert(ssh, spec(), new_ssh_key().public_line)


@pytest.mark.parametrize(
    "route",
    [
        RouteToDatabase(service="", protocol="postgres"),
        RouteToDatabase(service="orders", protocol=""),
        RouteToDatabase(service="orders", protocol="postgres", user="a\0b"),
        RouteToDatabase(service="orders", protocol="postgres", database="x" * 257),
        RouteToDatabase(service="orders", protocol="postgres", roles=tuple(map(str, range(33)))),
    ],
)
def test_what_is_never_signed(route: RouteToDatabase) -> None:
    with pytest.raises(InputError):
        signed(spec(route))


def test_databases_know_their_users_by_a_name_alone() -> None:
    signer = signers_of(CLIENT_CA).tls
    assert signer is not None
    pem = x509.sign_database_client(signer, "alice", KEY.public_pem, valid_after=NOW, valid_before=NOW + 60)
    cert = cx509.load_pem_x509_certificate(pem.encode())
    assert cert.subject.rfc4514_string() == "CN=alice"
    usage = cert.extensions.get_extension_for_class(cx509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    # It is a certificate for databases: no part of the cluster takes it for somebody.
    with pytest.raises(TrustError):
        x509.verify_peer(cert.public_bytes(Encoding.DER), trust=TRUST, now=NOW + 1)
    for user in ("", "x" * 65, "\u00e9" * 33, "a\0b", "a\nb"):
        with pytest.raises(InputError):
            x509.sign_database_client(signer, user, KEY.public_pem, valid_after=NOW, valid_before=NOW + 60)


def test_a_database_gets_the_names_it_is_dialled_by() -> None:
    signer = signers_of(SERVER_CA).tls
    assert signer is not None
    names = ["db.example", "10.0.0.9"]
    pem = x509.sign_database_server(signer, names, KEY.public_pem, valid_after=NOW, valid_before=NOW + 60)
    cert = cx509.load_pem_x509_certificate(pem.encode())
    found = cert.extensions.get_extension_for_class(cx509.SubjectAlternativeName).value
    assert found.get_values_for_type(cx509.DNSName) == ["db.example"]
    assert [str(ip) for ip in found.get_values_for_type(cx509.IPAddress)] == ["10.0.0.9"]
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "db.example"
    with pytest.raises(TrustError):
        x509.verify_peer(cert.public_bytes(Encoding.DER), trust=TRUST, now=NOW + 1)
    for bad in ([], ["*.example"], ["db.teleport.cluster.local"], ["a b"]):
        with pytest.raises(InputError):
            x509.sign_database_server(signer, bad, KEY.public_pem, valid_after=NOW, valid_before=NOW + 60)


def test_only_agents_of_databases_have_the_names_that_clients_ask_for() -> None:
    signer = signers_of(HOST_CA).tls
    assert signer is not None

    def names(role: SystemRole) -> list[str]:
        of = HostCertSpec(
            host_id="11111111-2222-4333-8444-555555555555",
            cluster="demo",
            system_roles=(role,),
            valid_after=NOW,
            valid_before=NOW + 60,
        )
        cert = cx509.load_pem_x509_certificate(x509.sign_host_tls(signer, of, KEY.public_pem).encode())
        found = cert.extensions.get_extension_for_class(cx509.SubjectAlternativeName).value
        return [name for name in found.get_values_for_type(cx509.DNSName) if name.startswith("*.")]

    assert names(SystemRole.DB) == ["*.db.teleport.cluster.local", "*.db.demo"]
    assert names(SystemRole.NODE) == []
