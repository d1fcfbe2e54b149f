"""A request of ClickHouse's HTTP interface: whom it names, what it asks, and how it goes on to the server."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

import h11

from pkgs.agents.db.clickhouse import limits
from pkgs.common.errors import DeniedError, InputError

_USER, _PASSWORD = "user", "password"
_LEFT_OUT = frozenset(
    (
        b"authorization",
        b"x-clickhouse-user",
        b"x-clickhouse-key",
        b"x-clickhouse-ssl-certificate-auth",
        b"x-clickhouse-jwt",
        b"x-forwarded-for",
        b"upgrade",
    )
)
"""Headers that say who somebody is, or that want another protocol."""
_OF_WEB_PAGES = frozenset((b"origin", b"sec-fetch-site"))
"""Headers that browsers send for a page, which cannot keep them from it (Fetch standard)."""
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was understood of a request's head."""

    method: str
    path: str
    fields: tuple[tuple[str, str], ...]
    """Of the address, without those of a login."""
    users: tuple[str, ...]
    """Whom it names, in whatever way."""
    statement: str
    """As far as it is in the address; the body goes on with it."""
    parameters: tuple[str, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    """Without those that are left out."""


def understand(request: h11.Request) -> Asked:
    """Raises InputError for what is not served, DeniedError for a web page."""
    if request.method not in _METHODS:
        raise InputError(f"ClickHouse has no HTTP method {request.method.decode('ascii', 'replace')}")
    path, _, query = request.target.decode("ascii", "replace").partition("?")
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=limits.FIELDS_MAX, errors="strict")
    except ValueError as exc:
        raise InputError("the address of the request is not UTF-8, or has too many fields") from exc
    users = [value for name, value in fields if name.lower() == _USER]
    kept = []
    framing = [name for name, _ in request.headers if name in (b"content-length", b"transfer-encoding")]
    if len(framing) > 1:
        # Which of the two counts, servers do not agree on (RFC 9112, section 6.1).
        raise InputError("the request says twice how long it is")
    for name, value in request.headers.raw_items():
        lower = name.lower()
        if lower in _OF_WEB_PAGES:
            raise DeniedError(
                "requests of web pages are not served", hint="use a client of ClickHouse's own, or a library"
            )
        if lower == b"x-clickhouse-user":
            users.append(value.decode("utf-8", "replace"))
        elif lower == b"authorization":
            users.append(_basic(value))
        elif lower == b"content-encoding" and value.lower() != b"identity":
            raise InputError(
                "compressed statements cannot be audited",
                hint="switch off compression of requests in the client",
            )
        if lower not in _LEFT_OUT:
            kept.append((name, value))
    # Names are the same to the server in capitals.
    rest = tuple((name, value) for name, value in fields if name.lower() not in (_USER, _PASSWORD))
    if any(name.lower() == "decompress" and value != "0" for name, value in rest):
        raise InputError("compressed statements cannot be audited", hint="leave decompress=1 out")
    return Asked(
        request.method.decode(),
        path,
        rest,
        tuple(user for user in users if user),
        "".join(value for name, value in rest if name.lower() == "query"),
        tuple(f"{name[6:]}={value}" for name, value in rest if name.lower().startswith("param_")),
        tuple(kept),
    )


def check_host(request: h11.Request, database: str) -> None:
    """A port of `tsh proxy db --tunnel` takes everybody, so a web page too whose own name was made to lead
    there. Raises DeniedError for a host name that nobody would call this database by."""
    named = dict(request.headers).get(b"host", b"").decode("ascii", "replace").lower()
    host = named.rpartition(":")[0] if named.rpartition(":")[2].isdecimal() else named
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if host not in ("", "localhost") and not host.startswith(f"{database.lower()}.db."):
            raise DeniedError(f"this is not {host[:100]!r}, but the database {database}") from None


def onward(asked: Asked, user: str) -> h11.Request:
    """The request for the server, as this user by certificate. Raises DeniedError when it names another."""
    for named in asked.users:
        if named != user:
            raise DeniedError(f'this session is for the database user "{user}" and no other')
    address = asked.path
    if asked.fields:
        address += "?" + urlencode(asked.fields, quote_via=quote)
    headers = (
        *asked.headers,
        (b"X-ClickHouse-User", user.encode()),
        (b"X-ClickHouse-SSL-Certificate-Auth", b"on"),
    )
    return h11.Request(method=asked.method, target=address, headers=list(headers))


def _basic(value: bytes) -> str:
    """The user of an Authorization header."""
    scheme, _, token = value.partition(b" ")
    try:
        if scheme.lower() != b"basic":
            raise ValueError
        return base64.b64decode(token.strip(), validate=True).decode().partition(":")[0]
    except (ValueError, binascii.Error) as exc:
        raise InputError("the login of the request is not served here", hint="leave it out") from exc


DENIED = (403, 516)
BAD = (400, 36)
UNAVAILABLE = (503, 210)
"""HTTP status and ClickHouse's own code."""
_REASONS = {403: b"Forbidden", 400: b"Bad Request", 503: b"Service Unavailable"}


def refusal(kind: tuple[int, int], text: str) -> bytes:
    """A whole response in the shape of ClickHouse's errors; the connection ends with it."""
    status, code = kind
    body = f"Code: {code}. DB::Exception: {' '.join(text.split())}\n".encode()
    return b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=UTF-8\r\n" % (status, _REASONS[status]) + (
        b"X-ClickHouse-Exception-Code: %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (code, len(body), body)
    )
