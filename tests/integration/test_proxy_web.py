"""The web API and pages over real HTTPS, with the Auth Service answered by a double."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pkgs.common.api.join import HostCerts, Join
from pkgs.common.api.login import Done, FinishSignup, GetSignup, Login, SignupForm, UserCerts
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.net.tls import client_context
from tests.integration.proxy_kit import ProxyKit, proxy, run
from tests.unit.net import certs

HOSTILE = "<script>alert(1)</script>"


@asynccontextmanager
async def browser(kit: ProxyKit, **headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=client_context(roots_pem=kit.authorities.roots))
    async with aiohttp.ClientSession(
        f"https://{kit.addr}", connector=connector, headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as session:
        yield session
    # aiohttp closes TLS transports a turn of the loop later.
    await asyncio.sleep(0.05)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def answers(kit: ProxyKit) -> None:
    def answer(request: Any) -> Any:
        match request:
            case Login(password="right"):
                return UserCerts(
                    user=request.user,
                    cluster_name="test",
                    ssh_cert="ssh-cert",
                    tls_cert="tls-cert",
                    authorities=kit.authorities.all,
                    expires_at=1_700_000_000.0,
                )
            case Login():
                raise DeniedError("invalid username, password or one-time code")
            case GetSignup(token="good" | "good-reset"):
                return SignupForm(
                    user=HOSTILE,
                    cluster_name="test",
                    second_factor="otp",
                    otp_secret="ABC",
                    otp_url="otpauth://totp/test:alice?secret=ABC",
                    kind="reset" if "reset" in request.token else "invite",
                )
            case GetSignup():
                raise NotFoundError("this link is not valid")
            case FinishSignup(otp="123456"):
                return Done()
            case FinishSignup():
                raise InputError("the one-time code is wrong")
            case Join():
                return HostCerts(
                    host_id=request.host_id, cluster_name="test", ssh_cert="s", tls_cert="t", authorities=[]
                )
        raise AssertionError(request)

    kit.auth.answer = answer


LOGIN = {
    "user": "alice",
    "password": "right",
    "totp_code": "1",
    "ssh_pub_key": b64("ssh"),
    "tls_pub_key": b64("tls"),
}


def test_ping_tells_what_a_client_needs_and_nothing_else(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            proxy(tmp_path, settings="  public_addr: hub.example.com:443\n") as kit,
            browser(kit) as web,
        ):
            for path in ("/webapi/ping", "/v1/webapi/ping", "/webapi/ping/local"):
                found = await (await web.get(path)).json()
                assert found["auth"]["second_factor"] == "otp"
                assert found["auth"]["default_session_ttl"] == "12h0m0s"
                assert found["proxy"]["ssh"]["public_addr"] == "hub.example.com:443"
                assert found["proxy"]["ssh"]["web_listen_addr"] == kit.addr
                assert found["proxy"]["tls_routing_enabled"] is True
                assert found["cluster_name"] == "test"
                assert found["proxy"]["db"] == {"postgres_listen_addr": kit.addr, "mysql_listen_addr": ""}
            assert "auth" not in await (await web.get("/webapi/find")).json()
            assert await (await web.get("/webapi/motd")).json() == {"Text": ""}
            assert (await web.get("/healthz")).status == 200
            assert "BEGIN CERTIFICATE" in await (await web.get("/webapi/auth/export?type=tls-host")).text()
            assert "@cert-authority" in await (await web.get("/webapi/auth/export?type=host")).text()
            assert "cert-authority" in await (await web.get("/webapi/auth/export?type=user")).text()
            assert (await web.get("/webapi/auth/export?type=x")).status == 400
            assert not kit.auth.calls

    run(body())


def test_every_answer_carries_the_security_headers(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            answers(kit)
            for path in ("/", "/webapi/ping", "/nowhere", "/web/invite/good", "/webapi/mfa/login/finish"):
                response = await web.get(path)
                assert response.headers["X-Frame-Options"] == "DENY"
                assert response.headers["Cache-Control"] == "no-store"
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "aiohttp" not in response.headers["Server"]

    run(body())


def test_a_login_carries_the_clients_address_and_yields_certificates(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit, **{"User-Agent": "tsh/1"}) as web:
            answers(kit)
            begun = await web.post("/webapi/mfa/login/begin", json={"user": "nobody", "pass": "x"})
            assert await begun.json() == {"second_factor": "otp", "totp_challenge": True}
            assert not kit.auth.calls
            for path in ("/webapi/mfa/login/finish", "/webapi/ssh/certs"):
                response = await web.post(path, json=LOGIN | {"ttl": 3_600_000_000_000})
                found = await response.json()
                assert response.status == 200
                assert base64.b64decode(found["cert"]) == b"ssh-cert"
                assert found["expires"] == "2023-11-14T22:13:20Z"
                signers = {one["type"]: one for one in found["host_signers"]}
                assert set(signers) == {"host", "user"}
                assert base64.b64decode(signers["host"]["tls_certs"][0]).startswith(b"-----BEGIN CERT")
                assert "private" not in str(found).lower()
            login = kit.auth.calls[0]
            assert (login.client_addr, login.ttl_s, login.user_agent) == ("127.0.0.1", 3600, "tsh/1")
            refused = await web.post("/webapi/mfa/login/finish", json=LOGIN | {"password": "wrong"})
            assert refused.status == 403
            assert (await refused.json())["error"] == {
                "message": "invalid username, password or one-time code",
                "code": "denied",
            }

    run(body())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"[]",
        b"{",
        b'{"user": 1}',
        b'{"user":"a","password":"b","ssh_pub_key":"%","tls_pub_key":"eA=="}',
        b"[" * 60_000,
    ],
)
def test_a_request_that_does_not_parse_is_one_clear_line(tmp_path: Path, sent: bytes) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            response = await web.post("/webapi/mfa/login/finish", data=sent)
            assert response.status == 400
            message = (await response.json())["error"]["message"]
            assert "\n" not in message
            assert len(message) < 300
            assert not kit.auth.calls

    run(body())


def test_joining_by_https(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            answers(kit)
            request = {
                "token": "t",
                "role": "Node",
                "host_id": "h",
                "node_name": "n",
                "public_ssh_key": b64("ssh"),
                "public_tls_key": b64("tls"),
            }
            found = await (await web.post("/webapi/host/credentials", json=request)).json()
            assert found["host_id"] == "h"
            assert kit.auth.calls[0].client_addr == "127.0.0.1"
            assert (await web.post("/webapi/host/credentials", json=request | {"role": "King"})).status == 400

    run(body())


def test_signing_up_with_a_plain_form(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            answers(kit)
            page = await (await web.get("/web/invite/good")).text()
            assert HOSTILE not in page
            assert "&lt;script&gt;" in page
            assert "<svg" in page
            assert "<script" not in page
            assert "http://" not in page.replace("http://www.w3.org", "")
            csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
            assert csrf
            form = {"csrf": csrf[1], "password": "correct horse", "again": "correct horse", "otp": "123456"}
            differs = await web.post("/web/invite/good", data=form | {"again": "other"})
            assert differs.status == 400
            assert "differ" in await differs.text()
            wrong = await web.post("/web/invite/good", data=form | {"otp": "0"})
            assert "code is wrong" in await wrong.text()
            done = await web.post("/web/invite/good", data=form)
            assert done.status == 200
            assert "tsh login" in await done.text()
            assert kit.auth.calls[-1] == FinishSignup(
                token="good", password="correct horse", otp="123456", client_addr="127.0.0.1"
            )
            reset = await (await web.get("/web/reset/good-reset")).text()
            assert "/web/reset/good-reset" in reset
            gone = await web.get("/web/invite/bad")
            assert gone.status == 404
            assert "not valid" in await gone.text()

    run(body())


def test_signing_up_by_the_api(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            answers(kit)
            found = await (await web.get("/webapi/users/password/token/good")).json()
            assert found["otp_secret"] == "ABC"
            assert base64.b64decode(found["qr_code"]).startswith(b"<svg")
            request = {"token": "good", "password": "p", "second_factor_token": "123456"}
            assert await (await web.put("/webapi/users/password/token", json=request)).json() == {
                "user": HOSTILE
            }

    run(body())


def test_without_the_auth_service_the_answer_is_one_clear_line(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:
            kit.auth.down = True
            response = await web.post("/webapi/mfa/login/finish", json=LOGIN)
            assert response.status == 503
            assert (await response.json())["error"]["message"].startswith(
                "the Auth Service does not answer now"
            )
            assert "3025" not in await response.text()
            assert (await web.get("/webapi/ping")).status == 200
            assert (await web.get("/web/invite/good")).status == 503

    run(body())


def test_what_is_unexpected_shows_an_incident_and_no_traceback(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit, browser(kit) as web:

            def fail(request: object) -> None:
                raise RuntimeError("secret detail")

            kit.auth.answer = fail
            response = await web.post("/webapi/mfa/login/finish", json=LOGIN)
            assert response.status == 500
            assert re.fullmatch(
                r"internal error, incident [0-9a-f]{8}", (await response.json())["error"]["message"]
            )

    run(body())


def write_pair(folder: Path, name: str) -> None:
    made = certs.pair(name)
    (folder / "cert.pem").write_text(made.cert)
    (folder / "key.pem").write_bytes(made.key)


def served(addr: str) -> str:
    host, _, port = addr.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=5)


def test_own_certificate_files_are_taken_up_when_they_change_all_or_none(tmp_path: Path) -> None:
    async def body() -> None:
        write_pair(tmp_path, "first.test")
        settings = (
            f"  https_keypairs: [{{key_file: {tmp_path}/key.pem, cert_file: {tmp_path}/cert.pem}}]\n"
            "  https_keypairs_reload_interval: 1s\n"
        )
        async with proxy(tmp_path / "d", settings=settings) as kit:
            assert await asyncio.to_thread(served, kit.addr) == certs.pair("first.test").cert
            (tmp_path / "cert.pem").write_text(certs.pair("second.test").cert)
            with pytest.raises(InputError, match="not a certificate and its key"):
                await kit.service.reload()
            assert await asyncio.to_thread(served, kit.addr) == certs.pair("first.test").cert
            write_pair(tmp_path, "second.test")
            deadline = time.monotonic() + 5
            while await asyncio.to_thread(served, kit.addr) != certs.pair("second.test").cert:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    run(body())


def test_a_wrong_pair_at_the_start_is_an_error(tmp_path: Path) -> None:
    async def body() -> None:
        write_pair(tmp_path, "first.test")
        (tmp_path / "key.pem").write_text("nothing")
        settings = f"  https_key_file: {tmp_path}/key.pem\n  https_cert_file: {tmp_path}/cert.pem\n"
        with pytest.raises(InputError):
            async with proxy(tmp_path / "d", settings=settings):
                pass

    run(body())
