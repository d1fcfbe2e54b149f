"""Pages for a browser without JavaScript: accepting an invitation or a reset, and a word of welcome.

Everything a page shows from elsewhere is escaped; nothing is loaded from anywhere. A form is only taken
back from the browser it was given to: a cookie and the form must fit together (attack A46).
"""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
from string import Template
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from pkgs.common.api.login import SignupForm
from pkgs.common.errors import AccessError, DeniedError, InputError
from pkgs.common.membership.cache import ClusterCache
from pkgs.proxy.web.api import WebApi, qr_svg
from pkgs.proxy.web.server import CLIENT_IP, COSTLY, SECURITY_HEADERS, read_body

PAGE_ROUTES: Final = {"/web/invite/{token}": COSTLY, "/web/reset/{token}": COSTLY}
_COOKIE: Final = "__Host-signup"
_FIELDS_MAX: Final = 16

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style nonce="$nonce">
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem; }
label { display: block; margin: 1rem 0 .25rem; }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem; }
button { font: inherit; margin-top: 1.5rem; padding: .5rem 1.5rem; }
code { background: #f2f2f2; padding: .1rem .3rem; overflow-wrap: anywhere; }
.problem { border-left: .3rem solid #b00020; padding-left: .8rem; }
</style>
<h1>$title</h1>
$content
</html>
""")

_FORM: Final = Template("""$problem
<p>User <strong>$user</strong> of cluster <strong>$cluster</strong>.</p>
$factor
<form method="post" autocomplete="off">
<input type="hidden" name="csrf" value="$csrf">
<label for="password">Password, at least 12 characters</label>
<input id="password" name="password" type="password" minlength="12" required autocomplete="new-password">
<label for="again">The same password again</label>
<input id="again" name="again" type="password" minlength="12" required autocomplete="new-password">
$code
<button type="submit">Set password</button>
</form>
<p>On a command line: <code>tsh signup '$link'</code></p>
""")

_FACTOR: Final = Template("""<p>Scan this code with an authenticator app, or type in the secret:</p>
<p>$qr</p>
<p><code>$secret</code></p>
""")

_CODE: Final = """<label for="otp">Six-digit code from the app</label>
<input id="otp" name="otp" inputmode="numeric" pattern="[0-9]{6}" autocomplete="one-time-code">
"""


class WebPages:
    def __init__(self, *, api: WebApi, cache: ClusterCache) -> None:
        self._api = api
        self._cache = cache
        self._key = secrets.token_bytes(32)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/", self.welcome)
        app.router.add_get("/web", self.welcome)
        for kind in ("invite", "reset"):
            app.router.add_get(f"/web/{kind}/{{token}}", self.show_form)
            app.router.add_post(f"/web/{kind}/{{token}}", self.take_form)

    async def welcome(self, request: web.Request) -> web.Response:
        host = html.escape(request.host)
        return _page(
            f"Cluster {self._cache.cluster_name}",
            f"<p>Log in on a command line: <code>tsh login --proxy={host} --user=NAME</code></p>",
        )

    async def show_form(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        try:
            form = await self._api.signup_form(token, request[CLIENT_IP])
        except AccessError as exc:
            return _problem_page(exc)
        cookie = request.cookies.get(_COOKIE) or secrets.token_urlsafe(24)
        response = self._form_page(request, form, token, cookie, "")
        response.set_cookie(
            _COOKIE, cookie, secure=True, httponly=True, samesite="Strict", path="/", max_age=3600
        )
        return response

    async def take_form(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        fields = _fields(request, await read_body(request))
        cookie = request.cookies.get(_COOKIE, "")
        self._check_origin(request, token, cookie, fields.get("csrf", ""))
        ip = request[CLIENT_IP]
        try:
            form = await self._api.signup_form(token, ip)
        except AccessError as exc:
            return _problem_page(exc)
        password = fields.get("password", "")
        try:
            if not hmac.compare_digest(password.encode(), fields.get("again", "").encode()):
                raise InputError("the two passwords differ")
            await self._api.sign_up(token, password, fields.get("otp", "").strip(), ip)
        except AccessError as exc:
            response = self._form_page(request, form, token, cookie, str(exc))
            response.set_status(exc.http_status)
            return response
        host, user = html.escape(request.host), html.escape(form.user)
        response = _page(
            "Done",
            f"<p>The password is set. Now log in: <code>tsh login --proxy={host} --user={user}</code></p>",
        )
        response.del_cookie(_COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    def _form_page(
        self, request: web.Request, form: SignupForm, token: str, cookie: str, problem: str
    ) -> web.Response:
        factor = code = ""
        if form.otp_url:
            factor = _FACTOR.substitute(qr=qr_svg(form.otp_url), secret=html.escape(form.otp_secret))
            code = _CODE
        kind = "reset" if form.kind == "reset" else "invite"
        content = _FORM.substitute(
            problem=f'<p class="problem">{html.escape(problem)}</p>' if problem else "",
            user=html.escape(form.user),
            cluster=html.escape(form.cluster_name),
            factor=factor,
            code=code,
            csrf=self._csrf(token, cookie),
            link=html.escape(f"https://{request.host}/web/{kind}/{token}"),
        )
        return _page("Set a new password" if kind == "reset" else "Accept the invitation", content)

    def _csrf(self, token: str, cookie: str) -> str:
        return hmac.new(self._key, f"{len(token)}:{token}{cookie}".encode(), hashlib.sha256).hexdigest()

    def _check_origin(self, request: web.Request, token: str, cookie: str, csrf: str) -> None:
        origin = request.headers.get("Origin")
        foreign = origin is not None and origin not in (f"https://{request.host}", "null")
        cross_site = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
        fits = bool(cookie) and hmac.compare_digest(self._csrf(token, cookie).encode(), csrf.encode())
        if foreign or cross_site or not fits:
            raise DeniedError("this form was not given to this browser", hint="open the link again")


def _fields(request: web.Request, body: bytes) -> dict[str, str]:
    """A form's fields. Only the one encoding that our own pages send; raises InputError for the rest."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise InputError("this is not the form that the page sends")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError as exc:
        raise InputError("the form does not parse") from exc
    return dict(pairs)


def _problem_page(exc: AccessError) -> web.Response:
    response = _page("That did not work", f'<p class="problem">{html.escape(str(exc))}</p>')
    response.set_status(exc.http_status)
    return response


def _page(title: str, content: str) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.substitute(title=html.escape(title), nonce=nonce, content=content)
    response = web.Response(text=page, content_type="text/html")
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    response.headers["Content-Security-Policy"] = f"{policy}; style-src 'nonce-{nonce}'"
    return response
