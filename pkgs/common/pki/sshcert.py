"""SSH certificates: verifying them completely, and signing them.

The one place for attacks A01-A07, A12, A15 and A17.

`verify_*` take the bytes from the peer and return an `Identity` or raise. They are pure, so a server may
call them for an unsigned probe as well; who is logged in is known only after the transport verified the
signature of the attempt.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Sequence

from pkgs.common.errors import DeniedError, InputError, TrustError
from pkgs.common.pki import certspec, keys, limits
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.source import address_in, parse_address
from pkgs.common.pki.ssh import ext as sshext
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.ssh import wire as sshwire
from pkgs.common.pki.ssh.key import line_to_blob
from pkgs.common.pki.ssh.parse import RELAYED, CertType, UnverifiedCert, parse_cert
from pkgs.common.pki.ssh.wire import WireError
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CaType
from pkgs.common.resources.names import valid_host_id, valid_login, valid_user_name

__all__ = [
    "line_to_blob",
    "sign_host_cert",
    "sign_openssh_host_cert",
    "sign_openssh_user_cert",
    "sign_user_cert",
    "unverified_facts",
    "verify_host_cert",
    "verify_user_cert",
]

_NO = "certificate is not accepted"


def verify_user_cert(
    blob: bytes,
    *,
    trust: Trust,
    login: str | None,
    source_addr: str,
    now: float,
    relayed_to: str = "",
) -> Identity:
    """The user behind a certificate offered for logging in as `login` from `source_addr`.

    Raises TrustError when the certificate is not to be believed and DeniedError when it is genuine but
    not for this login, address or moment. `login` None: any principal, for a gate that passes the
    connection on. An `Identity` from a pinned certificate is pinned to `source_addr` itself. A certificate
    by which a proxy passes a user on is taken by the host `relayed_to` alone, and by nobody else."""
    cert, cluster = _verify(blob, trust, CertType.USER, "user")
    if login is not None and not valid_login(login):  # attack A17
        raise DeniedError("not a valid login name", detail="login has a bad syntax")
    if cert.critical.relayed_to and cert.critical.relayed_to != relayed_to:  # attack A40
        raise TrustError(_NO, detail="it is for being passed on to another host")
    if not cert.key_id:
        raise TrustError(_NO, detail="no user name")
    if not cert.principals:  # attack A04
        raise TrustError(_NO, detail="no principals")
    if cert.valid_before == limits.FOREVER:  # attack A07
        raise TrustError(_NO, detail="a user certificate must expire")
    _check_time(cert, now)
    if login is not None and login not in cert.principals:  # attack A05
        raise DeniedError(
            f"this certificate is not for the login {login}", hint="`tsh status` lists its logins"
        )
    pinned = ""
    if cert.critical.source_networks is not None:  # attack A12
        if not address_in(source_addr, cert.critical.source_networks):
            raise DeniedError(
                "this certificate may not be used from this address",
                hint="log in again from here",
                detail=f"source-address does not include {source_addr or 'an unknown address'}",
            )
        pinned = str(parse_address(source_addr))
    try:
        facts = sshext.from_extensions(cert.extensions)
    except WireError as error:
        raise TrustError(_NO, detail=str(error)) from error
    return facts.identity(
        name=cert.key_id,
        cluster=cluster,
        logins=cert.principals,
        valid_after=float(cert.valid_after),
        expires_at=float(cert.valid_before),
        source_addr=pinned,
        force_command=cert.critical.force_command,
        relayed_by=cert.critical.relayed_by,
        serial=cert.serial,
    )


def verify_host_cert(blob: bytes, *, trust: Trust, names: Sequence[str], now: float) -> Identity:
    """The host behind a host certificate that must be for one of `names`; raises TrustError."""
    cert, cluster = _verify(blob, trust, CertType.HOST, "host")
    _check_time(cert, now)
    wanted = {name.lower() for name in names if name}
    if not wanted.intersection(principal.lower() for principal in cert.principals):
        raise TrustError(
            "the host's certificate is for another host", detail=f"wanted one of {sorted(wanted)}"
        )
    authority = cert.extensions.get("x-teleport-authority", cluster)
    if authority != cluster:
        raise TrustError(_NO, detail="certificate names another cluster than its authority's")
    role = cert.extensions.get("x-teleport-role", "")
    try:
        system_roles = tuple(SystemRole(name) for name in ([role] if role else []))
    except ValueError as error:
        raise TrustError(_NO, detail="unknown system role") from error
    return Identity(
        kind=PeerKind.HOST,
        name=next((p for p in cert.principals if valid_host_id(p)), cert.principals[0]),
        cluster=cluster,
        system_roles=system_roles,
        valid_after=float(cert.valid_after),
        expires_at=math.inf if cert.valid_before == limits.FOREVER else float(cert.valid_before),
        serial=cert.serial,
    )


def verify_host_signature(
    blob: bytes, signature: bytes, data: bytes, *, trust: Trust, names: Sequence[str], now: float
) -> Identity:
    """The host that has signed `data`, proven by its certificate, which must hold at `now` and for one of
    `names`; raises TrustError."""
    identity = verify_host_cert(blob, trust=trust, names=names, now=now)
    try:
        cert = parse_cert(blob)
        sshkey.verify_signature(cert.key_type, cert.public_key, signature, data)
    except WireError as error:
        raise TrustError("the signature does not hold", detail=str(error)) from error
    return identity


def unverified_facts(blob: bytes) -> UnverifiedCert:
    """What a certificate says, for showing one's own on a screen; never for a decision."""
    try:
        return parse_cert(blob)
    except WireError as error:
        raise InputError(f"not an SSH certificate: {error}") from error


def _verify(blob: bytes, trust: Trust, cert_type: CertType, ca_type: CaType) -> tuple[UnverifiedCert, str]:
    """Syntax, purpose, authority and signature; the cluster comes from the authority that signed."""
    try:
        cert = parse_cert(blob)
        if cert.cert_type is not cert_type:  # attack A03
            raise TrustError(_NO, detail=f"a {cert.cert_type.name.lower()} certificate offered")
        authority = trust.ssh_keys(ca_type).get(cert.authority_blob)
        if authority is None:  # attacks A01, A02, A15
            raise TrustError(_NO, detail="signed by an authority that is not trusted for this")
        if trust.is_authority_key(cert.public_blob):  # attack A15
            raise TrustError(_NO, detail="certifies an authority's own key")
        sshkey.verify_signature(authority.key_type, authority.key, cert.signature, cert.signed_data)
    except WireError as error:
        raise TrustError(_NO, detail=str(error)) from error
    return cert, authority.cluster


def _check_time(cert: UnverifiedCert, now: float) -> None:
    if cert.valid_after >= cert.valid_before:
        raise TrustError(_NO, detail="expires before it begins")
    if now + limits.CLOCK_TOLERANCE_S < cert.valid_after:
        raise TrustError("certificate is not valid yet", hint="check the clocks of both machines")
    if cert.valid_before != limits.FOREVER and now >= cert.valid_before:
        raise TrustError("certificate has expired", hint="log in again with `tsh login`")


def sign_user_cert(signer: SshSigner, spec: UserCertSpec, public_line: str) -> str:
    """A user certificate for the given plain public key, in `authorized_keys` form."""
    certspec.check_user_spec(spec)
    if spec.route_to_database is not None:
        raise InputError("a certificate for one database has no SSH form")
    critical: dict[str, str] = {}
    if spec.force_command:
        critical["force-command"] = spec.force_command
    if spec.source_addr:
        critical["source-address"] = str(_single_address(spec.source_addr))
    if spec.relayed_to:
        critical[RELAYED] = f"{spec.relayed_to} {spec.relayed_by}"
    return _sign(
        signer,
        public_line,
        cert_type=CertType.USER,
        key_id=spec.user,
        principals=spec.logins,
        valid_after=spec.valid_after,
        valid_before=spec.valid_before,
        critical=critical,
        extensions=sshext.to_extensions(spec),
        serial=spec.serial,
    )


def sign_host_cert(signer: SshSigner, spec: HostCertSpec, public_line: str) -> str:
    """A host certificate in `authorized_keys` form. With several system roles the first is named."""
    certspec.check_host_spec(spec)
    return _sign(
        signer,
        public_line,
        cert_type=CertType.HOST,
        key_id="",
        principals=spec.principals(),
        valid_after=spec.valid_after,
        valid_before=spec.valid_before,
        critical={},
        extensions={"x-teleport-authority": spec.cluster, "x-teleport-role": spec.system_roles[0].value},
        serial=spec.serial,
    )


def sign_openssh_host_cert(
    signer: SshSigner, principals: Sequence[str], public_line: str, *, valid_after: float, valid_before: float
) -> str:
    """A host certificate for an OpenSSH server that runs no agent; it names no system role."""
    if not principals:
        raise InputError("a host certificate needs at least one name")
    certspec.check_host_principals(principals)
    certspec.check_times(valid_after, valid_before)
    return _sign(
        signer,
        public_line,
        cert_type=CertType.HOST,
        key_id="",
        principals=list(dict.fromkeys(principals)),
        valid_after=valid_after,
        valid_before=valid_before,
        critical={},
        extensions={},
        serial=0,
    )


def sign_openssh_user_cert(
    signer: SshSigner,
    identity: Identity,
    login: str,
    public_line: str,
    *,
    valid_after: float,
    valid_before: float,
) -> str:
    """A certificate for one login on a server that knows nothing of roles; whoever holds it was let in by a
    decision. It keeps a forced command, and gives nothing but a terminal and forwarding, where the user's own
    does."""
    if not valid_login(login) or not valid_user_name(identity.name):
        raise InputError("not a name that is fit for a certificate")
    certspec.check_times(valid_after, valid_before)
    if math.isinf(valid_before):
        raise InputError("a user certificate must expire")
    kept = [name for name in ("permit-pty", "permit-port-forwarding") if name in identity.extensions]
    return _sign(
        signer,
        public_line,
        cert_type=CertType.USER,
        key_id=identity.name,
        principals=[login],
        valid_after=valid_after,
        valid_before=valid_before,
        critical={"force-command": identity.force_command} if identity.force_command else {},
        extensions=dict.fromkeys(kept, ""),
        serial=0,
    )


def _single_address(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    parsed = parse_address(address)
    if parsed is None:
        raise InputError("a certificate is pinned to one IP address")
    return ipaddress.ip_network(parsed)


def _sign(
    signer: SshSigner,
    public_line: str,
    *,
    cert_type: CertType,
    key_id: str,
    principals: Sequence[str],
    valid_after: float,
    valid_before: float,
    critical: dict[str, str],
    extensions: dict[str, str],
    serial: int,
) -> str:
    key = keys.load_public_line(public_line)
    key_type, fields = sshkey.public_fields(key)
    if signer.public_blob == sshwire.text(key_type) + fields:  # attack A15
        raise InputError("an authority's own key is never certified")
    body = b"".join(
        (
            sshwire.text(key_type + sshkey.CERT_SUFFIX),
            sshwire.string(os.urandom(32)),
            fields,
            sshwire.uint64(serial or int.from_bytes(os.urandom(8), "big") >> 1),
            sshwire.uint32(cert_type),
            sshwire.text(key_id),
            sshwire.string(b"".join(map(sshwire.text, principals))),
            sshwire.uint64(int(valid_after)),
            sshwire.uint64(limits.FOREVER if math.isinf(valid_before) else int(valid_before)),
            sshwire.string(_options(critical)),
            sshwire.string(_options(extensions)),
            sshwire.string(b""),
            sshwire.string(signer.public_blob),
        )
    )
    return sshkey.blob_to_line(body + sshwire.string(signer.sign(body)))


def _options(options: dict[str, str]) -> bytes:
    """Options in lexical order, as the format demands."""
    return b"".join(
        sshwire.text(name) + sshwire.string(sshwire.text(value) if value else b"")
        for name, value in sorted(options.items())
    )
