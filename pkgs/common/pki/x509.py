"""X.509 certificates: the authorities' own, users', hosts', and the way from a peer's leaf to an `Identity`.

Which authority signed is decided by verifying the signature, never by what the certificate says: a leaf of
the user authority is a user or nothing, whatever host names it carries, and the other way round.
"""

from __future__ import annotations

import ipaddress
import math
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pkgs.common.errors import InputError, TrustError
from pkgs.common.pki import certspec, keys, limits, source, x509name
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.signer import TlsSigner, digest_for
from pkgs.common.pki.ssh.key import PublicKey
from pkgs.common.pki.trust import Trust, TrustedTlsCa
from pkgs.common.resources.kinds import CaType
from pkgs.common.resources.names import valid_host_id, valid_user_name

ROLE_DOMAIN = "teleport.cluster.local"
_NO = "certificate is not accepted"
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_LEAF = x509.BasicConstraints(ca=False, path_length=None)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_PEER_CA_TYPES: tuple[CaType, ...] = ("user", "host")


def role_dns_name(role: SystemRole) -> str:
    """The name that only holders of this system role carry, and that clients ask for: `auth.teleport...`."""
    return f"{role.value.lower()}.{ROLE_DOMAIN}"


def new_ca(cluster: str, private_pem: bytes, *, now: float) -> str:
    """A self-signed authority certificate in PEM."""
    key = keys.load_private_key(private_pem)
    name = x509name.authority_name(cluster)
    builder = (
        _builder(name, key.public_key(), now - limits.BACKDATE_S, now + limits.CA_LIFE_S, 0)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(builder.sign(key, digest_for(key)))


def sign_user_tls(signer: TlsSigner, spec: UserCertSpec, public_pem: str) -> str:
    """A user's client certificate in PEM."""
    certspec.check_user_spec(spec)
    if not spec.roles:
        raise InputError("a user certificate needs at least one role")
    if spec.source_addr and source.parse_address(spec.source_addr) is None:
        raise InputError("a certificate is pinned to one IP address")
    key = keys.load_public_pem(public_pem)
    builder = _leaf(
        signer, x509name.user_name(spec), key, spec.valid_after, spec.valid_before, spec.serial, _CLIENT
    )
    return _pem(signer.sign(builder))


def sign_host_tls(signer: TlsSigner, spec: HostCertSpec, public_pem: str) -> str:
    """A host's certificate in PEM, for both ends of a connection. DNS names: its own, and one for each of
    its system roles."""
    certspec.check_host_spec(spec)
    names = [*spec.principals(), *(role_dns_name(role) for role in spec.system_roles)]
    if SystemRole.DB in spec.system_roles:
        # Clients name the database in the host name they connect to, and check it (docs/adr/0110).
        names += [f"*.{role_dns_name(SystemRole.DB)}", f"*.db.{spec.cluster}"]
    builder = _leaf(
        signer,
        x509name.host_name(spec),
        keys.load_public_pem(public_pem),
        spec.valid_after,
        spec.valid_before,
        spec.serial,
        _BOTH,
    )
    return _pem(signer.sign(builder.add_extension(_alternative_names(names), critical=False)))


def sign_web_tls(
    signer: TlsSigner, names: Sequence[str], public_pem: str, *, valid_after: float, valid_before: float
) -> str:
    """A server certificate for browsers: host names only, no identity, no client use."""
    if not names:
        raise InputError("a web certificate needs at least one name")
    certspec.check_host_principals(names)
    certspec.check_times(valid_after, valid_before)
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, names[0])])
    key = keys.load_public_pem(public_pem)
    builder = _leaf(signer, subject, key, valid_after, valid_before, 0, _SERVER)
    return _pem(signer.sign(builder.add_extension(_alternative_names(names), critical=False)))


def sign_database_client(
    signer: TlsSigner, user: str, public_pem: str, *, valid_after: float, valid_before: float
) -> str:
    """What a database knows its user by: a client certificate whose common name is the database user."""
    certspec.check_times(valid_after, valid_before)
    subject = x509name.database_client_name(user)
    key = keys.load_public_pem(public_pem)
    return _pem(signer.sign(_leaf(signer, subject, key, valid_after, valid_before, 0, _CLIENT)))


def sign_database_server(
    signer: TlsSigner, names: Sequence[str], public_pem: str, *, valid_after: float, valid_before: float
) -> str:
    """A database's own certificate for these names, of use to both ends: members of a cluster of databases
    show it to one another as well."""
    if not names:
        raise InputError("a database's certificate needs at least one name")
    certspec.check_host_principals(names)
    certspec.check_times(valid_after, valid_before)
    subject = x509name.database_client_name(names[0][:64])
    key = keys.load_public_pem(public_pem)
    builder = _leaf(signer, subject, key, valid_after, valid_before, 0, _BOTH)
    return _pem(signer.sign(builder.add_extension(_alternative_names(names), critical=False)))


def verify_peer(der: bytes, *, trust: Trust, now: float, source_addr: str | None = None) -> Identity:
    """Who the holder of this leaf certificate is; raises TrustError.

    The TLS layer has proved that the peer holds the key. With `source_addr` a pinned certificate is
    checked here as well (DeniedError); without it the caller must run `check_source` later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a peer's name longer than X.520 allows
        cert = _load(der)
        ca_type, ca = _find_authority(cert, trust)
        _check_leaf(cert, now)
        identity = _user(cert, ca) if ca_type == "user" else _host(cert, ca)
    if source_addr is not None:
        source.check_source(identity, source_addr)
    return identity


def _load(der: bytes) -> x509.Certificate:
    if len(der) > limits.MAX_TLS_CERT_BYTES:
        raise TrustError(_NO, detail="certificate is too large")
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise TrustError(_NO, detail="not a certificate") from error


def _find_authority(cert: x509.Certificate, trust: Trust) -> tuple[CaType, TrustedTlsCa]:
    """The trusted authority whose key really signed this certificate."""
    try:
        digest = cert.signature_hash_algorithm
        if digest is not None and not isinstance(digest, _HASHES):  # attack A16
            raise TrustError(_NO, detail="signature algorithm is too weak")
        for ca_type in _PEER_CA_TYPES:
            for ca in trust.tls_cas(ca_type):
                if _signed_by(cert, ca.cert):
                    return ca_type, ca
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(_NO, detail="certificate does not parse") from error
    raise TrustError(_NO, detail="signed by an authority that is not trusted for this")


def _signed_by(cert: x509.Certificate, ca: x509.Certificate) -> bool:
    if cert.issuer != ca.subject:
        return False
    try:
        cert.verify_directly_issued_by(ca)
    except InvalidSignature:
        return False
    return True


def _check_leaf(cert: x509.Certificate, now: float) -> None:
    """Purpose, strength and time of a leaf."""
    try:
        extensions = cert.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        public = cert.public_key()
    except (x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm, ValueError) as error:
        raise TrustError(_NO, detail="an extension is missing or malformed") from error
    unknown = [e for e in extensions if e.critical and isinstance(e.value, x509.UnrecognizedExtension)]
    if unknown:
        raise TrustError(_NO, detail="unknown critical extension")
    if constraints.ca:
        raise TrustError(_NO, detail="an authority certificate offered as a leaf")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        raise TrustError(_NO, detail="certificate is not for clients")
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < limits.MIN_RSA_BITS:
        raise TrustError(_NO, detail="RSA key is too short")
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise TrustError(_NO, detail="key type is not accepted")
    begins, ends = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    if begins >= ends:
        raise TrustError(_NO, detail="expires before it begins")
    if now + limits.CLOCK_TOLERANCE_S < begins:
        raise TrustError("certificate is not valid yet", hint="check the clocks of both machines")
    if now >= ends:
        raise TrustError("certificate has expired", hint="log in again with `tsh login`")


def _fields(cert: x509.Certificate, ca: TrustedTlsCa) -> x509name.SubjectFields:
    try:
        fields = x509name.SubjectFields(cert.subject)
    except ValueError as error:
        raise TrustError(_NO, detail="subject does not parse") from error
    home = fields.one(x509name.HOME_CLUSTER)
    if home and home != ca.cluster:
        raise TrustError(_NO, detail="certificate names another cluster than its authority's")
    return fields


def _expiry(cert: x509.Certificate) -> float:
    ends = cert.not_valid_after_utc
    return math.inf if ends >= _NEVER else ends.timestamp()


def _user(cert: x509.Certificate, ca: TrustedTlsCa) -> Identity:
    """A leaf of the user authority. One that claims anything of a host is refused, not read as a user."""
    fields = _fields(cert, ca)
    if fields.has(x509name.SYSTEM_ROLE) or _has_alternative_names(cert):
        raise TrustError(_NO, detail="user certificate with the claims of a host")
    facts = x509name.user_facts(fields)
    name = fields.one(NameOID.COMMON_NAME)
    if not valid_user_name(name) or not facts.roles:
        raise TrustError(_NO, detail="user certificate without a user name or roles")
    if math.isinf(_expiry(cert)):  # attack A07
        raise TrustError(_NO, detail="a user certificate must expire")
    return facts.identity(
        name=name,
        cluster=ca.cluster,
        logins=fields.many(NameOID.LOCALITY_NAME),
        source_addr=fields.one(x509name.PINNED_IP),
        serial=cert.serial_number,
        valid_after=cert.not_valid_before_utc.timestamp(),
        expires_at=_expiry(cert),
    )


def _host(cert: x509.Certificate, ca: TrustedTlsCa) -> Identity:
    """A leaf of the host authority. One that claims anything of a user is refused."""
    fields = _fields(cert, ca)
    if fields.has(NameOID.LOCALITY_NAME, NameOID.POSTAL_CODE, x509name.IMPERSONATOR):
        raise TrustError(_NO, detail="host certificate with the claims of a user")
    host_id = fields.one(NameOID.COMMON_NAME).removesuffix(f".{ca.cluster}")
    if not valid_host_id(host_id):
        raise TrustError(_NO, detail="host certificate without a host id")
    names = fields.many(x509name.SYSTEM_ROLE) or fields.many(NameOID.ORGANIZATION_NAME)
    try:
        roles = tuple(SystemRole(name) for name in names)
    except ValueError as error:
        raise TrustError(_NO, detail="unknown system role") from error
    if not roles:
        raise TrustError(_NO, detail="host certificate without a system role")
    return Identity(
        kind=PeerKind.HOST,
        name=host_id,
        cluster=ca.cluster,
        system_roles=roles,
        serial=cert.serial_number,
        valid_after=cert.not_valid_before_utc.timestamp(),
        expires_at=_expiry(cert),
    )


def _has_alternative_names(cert: x509.Certificate) -> bool:
    try:
        cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    return True


def _builder(
    subject: x509.Name, key: PublicKey, valid_after: float, valid_before: float, serial: int
) -> x509.CertificateBuilder:
    ends = _NEVER if math.isinf(valid_before) else datetime.fromtimestamp(int(valid_before), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(valid_after), UTC))
        .not_valid_after(ends)
    )


def _leaf(
    signer: TlsSigner,
    subject: x509.Name,
    key: PublicKey,
    valid_after: float,
    valid_before: float,
    serial: int,
    usage: x509.ExtendedKeyUsage,
) -> x509.CertificateBuilder:
    if key == signer.cert.public_key():  # attack A15
        raise InputError("an authority's own key is never certified")
    return (
        _builder(subject, key, valid_after, valid_before, serial)
        .issuer_name(signer.cert.subject)
        .add_extension(_LEAF, critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(signer.key_identifier, critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        address = source.parse_address(name)
        general.append(x509.DNSName(name) if address is None else x509.IPAddress(ipaddress.ip_address(name)))
    return x509.SubjectAlternativeName(general)


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(Encoding.PEM).decode()
