"""The web API: what a client may learn before it is anybody, logging in, signing up, joining.

Each call that changes something is made to the Auth Service as it is, with the client's address; the proxy
decides nothing here. Byte fields are base64 text, durations integer nanoseconds, as the field's clients
expect.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
import segno
from aiohttp import web

from pkgs.common.api.headless import StartHeadless
from pkgs.common.api.join import Join
from pkgs.common.api.login import FinishSignup, GetSignup, Login, SignupForm, UserCerts
from pkgs.common.errors import InputError, NotFoundError, UnavailableError
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import CertAuthority
from pkgs.common.rpc.calls import AsyncClient, Request
from pkgs.common.runtime.version import VERSION
from pkgs.proxy import limits
from pkgs.proxy.web.server import CHEAP, CLIENT_IP, COSTLY, FREE, json_response, read_body

A = TypeVar("A")
T = TypeVar("T", bound=msgspec.Struct)

ROUTES: Final = {
    "/webapi/ping": FREE,
    "/webapi/ping/{connector}": FREE,
    "/webapi/find": FREE,
    "/webapi/motd": CHEAP,
    "/webapi/auth/export": CHEAP,
    "/webapi/mfa/login/begin": CHEAP,
    "/webapi/mfa/login/finish": COSTLY,
    "/webapi/ssh/certs": COSTLY,
    "/webapi/users/password/token/{token}": COSTLY,
    "/webapi/users/password/token": COSTLY,
    "/webapi/host/credentials": COSTLY,
    "/healthz": FREE,
    "/": CHEAP,
    "/web": CHEAP,
}
MIN_CLIENT_VERSION: Final = "0.1.0"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this proxy listens and how it is reached, as `ping` tells it."""

    web_listen: str
    public: str = ""
    ssh_listen: str = ""
    ssh_public: str = ""
    tunnel_listen: str = ""
    tunnel_public: str = ""
    mysql_listen: str = ""
    mysql_public: str = ""


class _LoginBegin(msgspec.Struct, frozen=True):
    user: str
    password: str = msgspec.field(default="", name="pass")


class _LoginFinish(msgspec.Struct, frozen=True):
    user: str
    password: str
    ssh_pub_key: str
    tls_pub_key: str
    totp_code: str = ""
    otp_token: str = ""
    ttl: int = 0


class _HeadlessLogin(msgspec.Struct, frozen=True):
    user: str
    headless_id: str
    ssh_pub_key: str
    tls_pub_key: str


class _FinishSignup(msgspec.Struct, frozen=True):
    token: str
    password: str
    second_factor_token: str = ""


class _HostCredentials(msgspec.Struct, frozen=True):
    token: str
    role: str
    host_id: str
    node_name: str
    public_ssh_key: str
    public_tls_key: str
    additional_principals: list[str] = []


class WebApi:
    def __init__(
        self, *, client: AsyncClient, cache: ClusterCache, addresses: Callable[[], Addresses]
    ) -> None:
        self._client = client
        self._cache = cache
        self._addresses = addresses

    def add_routes(self, app: web.Application) -> None:
        for prefix in ("", "/v1"):
            router = app.router
            router.add_get(f"{prefix}/webapi/ping", self.ping)
            router.add_get(f"{prefix}/webapi/ping/{{connector}}", self.ping)
            router.add_get(f"{prefix}/webapi/find", self.find)
            router.add_get(f"{prefix}/webapi/motd", self.motd)
            router.add_get(f"{prefix}/webapi/auth/export", self.export)
            router.add_post(f"{prefix}/webapi/mfa/login/begin", self.login_begin)
            router.add_post(f"{prefix}/webapi/mfa/login/finish", self.login_finish)
            router.add_post(f"{prefix}/webapi/ssh/certs", self.login_finish)
            router.add_post(f"{prefix}/webapi/headless/login", self.headless_login)
            router.add_get(f"{prefix}/webapi/users/password/token/{{token}}", self.get_signup)
            router.add_put(f"{prefix}/webapi/users/password/token", self.finish_signup)
            router.add_post(f"{prefix}/webapi/users/password/token", self.finish_signup)
            router.add_post(f"{prefix}/webapi/host/credentials", self.host_credentials)
        app.router.add_get("/healthz", self.health)

    async def call(self, request: Request[A]) -> A:
        """Ask the Auth Service. Raises what it raises; UnavailableError reads the same whatever the cause."""
        try:
            return await self._client.call(request, deadline_s=limits.API_CALL_S)
        except UnavailableError as exc:
            raise UnavailableError(
                "the Auth Service does not answer now",
                hint="try again in a moment",
                detail=exc.detail or exc.message,
            ) from exc

    # --- what anybody may know

    async def health(self, request: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def ping(self, request: web.Request) -> web.Response:
        preference = self._cache.auth_preference.spec
        connector = request.match_info.get("connector", "local")
        if connector not in ("local", "otp"):
            raise NotFoundError(f"there is no connector {connector!r}")
        auth = {
            "type": preference.type,
            "second_factor": preference.second_factor,
            "preferred_local_mfa": "" if preference.second_factor == "off" else "otp",
            "allow_passwordless": False,
            "allow_headless": preference.allow_headless is not False
            and preference.second_factor != "off"
            and preference.local_auth,
            "local": {"name": ""},
            "private_key_policy": "none",
            "piv_slot": "",
            "device_trust": {"disabled": True},
            "has_motd": bool(preference.message_of_the_day),
            "default_session_ttl": preference.default_session_ttl,
        }
        return json_response({"auth": auth, **self._about()})

    async def find(self, request: web.Request) -> web.Response:
        return json_response(self._about())

    def _about(self) -> dict[str, object]:
        addresses = self._addresses()
        ssh: dict[str, object] = {
            "listen_addr": addresses.ssh_listen or addresses.web_listen,
            "tunnel_listen_addr": addresses.tunnel_listen or addresses.web_listen,
            "web_listen_addr": addresses.web_listen,
            "public_addr": addresses.public,
            "dial_timeout": 30_000_000_000,
        }
        if addresses.ssh_public:
            ssh["ssh_public_addr"] = addresses.ssh_public
        if addresses.tunnel_public:
            ssh["ssh_tunnel_public_addr"] = addresses.tunnel_public
        databases = {
            "postgres_listen_addr": addresses.web_listen,
            "mysql_listen_addr": addresses.mysql_listen,
        }
        if addresses.mysql_public:
            databases["mysql_public_addr"] = addresses.mysql_public
        return {
            "proxy": {
                "kube": {"enabled": False, "listen_addr": ""},
                "ssh": ssh,
                "db": databases,
                "tls_routing_enabled": True,
            },
            "server_version": VERSION,
            "min_client_version": MIN_CLIENT_VERSION,
            "auto_update": {
                "tools_version": "",
                "tools_auto_update": False,
                "agent_version": "",
                "agent_auto_update": False,
                "agent_update_jitter_seconds": 0,
            },
            "cluster_name": self._cache.cluster_name,
            "automatic_upgrades": False,
            "edition": "community",
            "fips": False,
        }

    async def motd(self, request: web.Request) -> web.Response:
        return json_response({"Text": self._cache.auth_preference.spec.message_of_the_day})

    async def export(self, request: web.Request) -> web.Response:
        trust = self._cache.trust
        kind = request.query.get("type", "host")
        cluster = trust.cluster_name
        match kind:
            case "host":
                lines = trust.known_hosts_lines()
            case "user":
                lines = [
                    f"cert-authority {line} clustername={cluster}&type=user"
                    for line in trust.ssh_ca_lines("user")
                ]
            case "openssh":
                lines = trust.ssh_ca_lines("user")
            case "tls-host" | "tls":
                lines = [trust.tls_roots_pem("host").rstrip("\n")]
            case "tls-user":
                lines = [trust.tls_roots_pem("user").rstrip("\n")]
            case _:
                raise InputError(
                    f"there is no authority {kind!r} to export",
                    hint="type is host, user, openssh, tls-host or tls-user",
                )
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    # --- logging in

    async def login_begin(self, request: web.Request) -> web.Response:
        """Says what the login will ask for: the same for every user, existing or not."""
        await _decode(request, _LoginBegin)
        second_factor = self._cache.auth_preference.spec.second_factor
        return json_response({"second_factor": second_factor, "totp_challenge": second_factor != "off"})

    async def login_finish(self, request: web.Request) -> web.Response:
        body = await _decode(request, _LoginFinish)
        certs = await self.call(
            Login(
                user=body.user,
                password=body.password,
                otp=body.totp_code or body.otp_token,
                ssh_public_key=_text(body.ssh_pub_key, "ssh_pub_key"),
                tls_public_key=_text(body.tls_pub_key, "tls_pub_key"),
                ttl_s=max(0, body.ttl) // 1_000_000_000,
                client_addr=request[CLIENT_IP],
                user_agent=request.headers.get("User-Agent", "")[:256],
            )
        )
        return json_response(user_certs(certs))

    async def headless_login(self, request: web.Request) -> web.Response:
        """Certificates once the user has approved; until then, again and again, `{"state": "pending"}`."""
        body = await _decode(request, _HeadlessLogin)
        answer = await self.call(
            StartHeadless(
                user=body.user,
                headless_id=body.headless_id,
                ssh_public_key=_text(body.ssh_pub_key, "ssh_pub_key"),
                tls_public_key=_text(body.tls_pub_key, "tls_pub_key"),
                client_addr=request[CLIENT_IP],
                user_agent=request.headers.get("User-Agent", "")[:256],
            )
        )
        if answer.certs is None:
            return json_response({"state": "pending"})
        return json_response({"state": "approved", "certs": user_certs(answer.certs)})

    # --- invitations

    async def signup_form(self, token: str, client_ip: str) -> SignupForm:
        if not token or len(token) > 256:
            raise NotFoundError("this link is not valid, or not any more", hint="ask for a new one")
        return await self.call(GetSignup(token=token, client_addr=client_ip))

    async def sign_up(self, token: str, password: str, otp: str, client_ip: str) -> None:
        await self.call(FinishSignup(token=token, password=password, otp=otp, client_addr=client_ip))

    async def get_signup(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        form = await self.signup_form(token, request[CLIENT_IP])
        return json_response(
            {
                "token_id": token,
                "user": form.user,
                "cluster_name": form.cluster_name,
                "kind": form.kind,
                "second_factor": form.second_factor,
                "otp_secret": form.otp_secret,
                "otp_url": form.otp_url,
                "qr_code": _b64(qr_svg(form.otp_url)) if form.otp_url else "",
            }
        )

    async def finish_signup(self, request: web.Request) -> web.Response:
        body = await _decode(request, _FinishSignup)
        form = await self.signup_form(body.token, request[CLIENT_IP])
        await self.sign_up(body.token, body.password, body.second_factor_token, request[CLIENT_IP])
        return json_response({"user": form.user})

    # --- joining

    async def host_credentials(self, request: web.Request) -> web.Response:
        body = await _decode(request, _HostCredentials)
        try:
            role = SystemRole(body.role)
        except ValueError as exc:
            raise InputError(
                f"there is no system role {body.role!r}", hint="Node or Proxy, for example"
            ) from exc
        certs = await self.call(
            Join(
                token=body.token,
                role=role,
                host_id=body.host_id,
                node_name=body.node_name,
                ssh_public_key=_text(body.public_ssh_key, "public_ssh_key"),
                tls_public_key=_text(body.public_tls_key, "public_tls_key"),
                additional_principals=body.additional_principals,
                client_addr=request[CLIENT_IP],
            )
        )
        return json_response(
            {
                "host_id": certs.host_id,
                "cluster_name": certs.cluster_name,
                "ssh_cert": _b64(certs.ssh_cert),
                "tls_cert": _b64(certs.tls_cert),
                "host_signers": signers(certs.authorities),
            }
        )


def user_certs(certs: UserCerts) -> dict[str, object]:
    """What a login answers."""
    expires = datetime.fromtimestamp(certs.expires_at, UTC)
    return {
        "username": certs.user,
        "cluster_name": certs.cluster_name,
        "cert": _b64(certs.ssh_cert),
        "tls_cert": _b64(certs.tls_cert),
        "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host_signers": signers(certs.authorities),
    }


def signers(authorities: Sequence[CertAuthority]) -> list[dict[str, object]]:
    """The authorities a client needs in order to trust the cluster: public parts only."""
    found: list[dict[str, object]] = []
    for authority in authorities:
        spec = authority.spec
        keys = (spec.active_keys, spec.additional_trusted_keys)
        found.append(
            {
                "type": spec.type,
                "domain_name": spec.cluster_name,
                "checking_keys": [_b64(pair.public_key) for one in keys for pair in one.ssh],
                "tls_certs": [_b64(pair.cert) for one in keys for pair in one.tls],
            }
        )
    return found


def qr_svg(text: str) -> str:
    """A QR code as an SVG element that needs nothing from outside."""
    svg: str = segno.make(text, error="m").svg_inline(scale=5, border=3, dark="#000", light="#fff")
    return svg


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _text(value: str, name: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError) as exc:
        raise InputError(f"{name} is not base64 of a public key") from exc


async def _decode(request: web.Request, type_: type[T]) -> T:
    """The body as a typed value. Raises InputError naming the field, never what it holds."""
    raw = await read_body(request)
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = str(exc) if isinstance(exc, msgspec.ValidationError) else "it is no JSON object"
        raise InputError(f"the request does not parse: {reason}") from exc


__all__ = ["ROUTES", "Addresses", "WebApi", "qr_svg", "signers", "user_certs"]
