"""Joining by HTTPS through a proxy whose web certificate the system's authorities vouch for.

The standard library's client, in a thread: it runs once in a host's life, and an agent should not carry
a whole web stack for that.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import http.client
import ssl
from typing import Annotated

import msgspec

from pkgs.common.api.join import HostCerts, Join
from pkgs.common.errors import BY_CODE, AccessError, ProtocolError, TrustError, UnavailableError
from pkgs.common.membership.limits import JOIN_CALL_S, MAX_WEB_ANSWER
from pkgs.common.net.sockets import split_host_port
from pkgs.common.resources.kinds import (
    CaKeySet,
    CaType,
    CertAuthority,
    CertAuthoritySpec,
    SshKeyPair,
    TlsKeyPair,
)
from pkgs.common.resources.metadata import Metadata

_PATH = "/webapi/host/credentials"
_Few = Annotated[list[str], msgspec.Meta(max_length=64)]


class _Signer(msgspec.Struct, frozen=True):
    type: CaType
    domain_name: str
    checking_keys: _Few = []
    tls_certs: _Few = []


class _Answer(msgspec.Struct, frozen=True):
    host_id: str
    cluster_name: str
    ssh_cert: str
    tls_cert: str
    host_signers: Annotated[list[_Signer], msgspec.Meta(max_length=64)]


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""
    code: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Problem


async def join_by_web(addr: str, request: Join, *, insecure: bool) -> HostCerts:
    """Host certificates by the proxy's web API. With `insecure` anybody is believed."""
    body = msgspec.json.encode(
        {
            "token": request.token,
            "role": request.role.value,
            "host_id": request.host_id,
            "node_name": request.node_name,
            "additional_principals": request.additional_principals,
            "public_ssh_key": base64.b64encode(request.ssh_public_key.encode()).decode(),
            "public_tls_key": base64.b64encode(request.tls_public_key.encode()).decode(),
        }
    )
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    status, raw = await asyncio.to_thread(_post, addr, context, body)
    return _parsed(status, raw)


def _post(addr: str, context: ssl.SSLContext, body: bytes) -> tuple[int, bytes]:
    host, port = split_host_port(addr)
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=JOIN_CALL_S)
    with contextlib.closing(connection):
        try:
            connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(MAX_WEB_ANSWER + 1)
        except ssl.SSLCertVerificationError as error:
            raise TrustError(
                f"the web certificate of {addr} is not to be trusted: {error.verify_message}",
                hint="give the cluster's CA pin with --ca-pin (`tctl status` on the Auth host shows it)",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the proxy {addr} does not answer", detail=str(error)) from error


def _parsed(status: int, raw: bytes) -> HostCerts:
    if len(raw) > MAX_WEB_ANSWER:
        raise ProtocolError("the proxy's answer is too long")
    try:
        if status != http.HTTPStatus.OK:
            problem = msgspec.json.decode(raw, type=_Refusal).error
            kind: type[AccessError] = BY_CODE.get(problem.code, UnavailableError)
            raise kind(problem.message[:1000] or f"the proxy answered with status {status}")
        answer = msgspec.json.decode(raw, type=_Answer)
        return HostCerts(
            host_id=answer.host_id,
            cluster_name=answer.cluster_name,
            ssh_cert=_text(answer.ssh_cert),
            tls_cert=_text(answer.tls_cert),
            authorities=[_authority(signer) for signer in answer.host_signers],
        )
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnavailableError(f"the proxy answered with status {status}") from error
        raise ProtocolError(
            f"this is not the web API of a proxy (status {status})", hint="check the address of the proxy"
        ) from error


def _authority(signer: _Signer) -> CertAuthority:
    return CertAuthority(
        metadata=Metadata(name=signer.domain_name),
        sub_kind=signer.type,
        spec=CertAuthoritySpec(
            type=signer.type,
            cluster_name=signer.domain_name,
            active_keys=CaKeySet(
                ssh=[SshKeyPair(public_key=_text(line)) for line in signer.checking_keys],
                tls=[TlsKeyPair(cert=_text(pem)) for pem in signer.tls_certs],
            ),
        ),
    )


def _text(encoded: str) -> str:
    return base64.b64decode(encoded, validate=True).decode()
