"""Attacks on the proxy's web side: slow, broken and oversized requests, forged addresses, forms."""

from __future__ import annotations

import asyncio
import re
import struct
from pathlib import Path

import pytest

from pkgs.common.api.login import SignupForm
from pkgs.common.api.tunnel import UserDial
from pkgs.common.errors import UnavailableError
from pkgs.common.net.dial import dial_tls
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.proxyproto.signed import FOR_AUTH, HeaderSigner
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.proxy import limits
from tests.integration.proxy_kit import (
    PROXY_NAME,
    ProxyKit,
    node,
    proxy,
    read_line,
    run,
)
from tests.security.proxy_attack_kit import (
    client_hello,
    closed,
    connect,
    deny,
    https,
    still_serves,
)

N1 = "11111111-1111-4111-8111-111111111111"


def test_a42_a54_slow_clients_of_every_kind_are_cut_and_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a hello, a handshake that stops, half a request head, half a body, half a frame: all at once."""
    for name in ("HEADER_S", "BODY_S", "USER_DIAL_S", "DATA_HELLO_S"):
        monkeypatch.setattr(limits, name, 1.0)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            web = client_context(roots_pem=kit.authorities.roots, alpn=("http/1.1",))
            hello = client_hello(web)
            slow: list[Stream] = []
            for _ in range(100):
                slow.append(await adopt(await connect(kit.addr, "127.0.0.3")))
            for part in (hello[:40], hello):
                stream = await adopt(await connect(kit.addr))
                stream.write(part)
                slow.append(stream)
            for sent in (
                b"",
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
                b"POST /webapi/mfa/login/begin HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
            ):
                stream = await dial_tls(kit.addr, web, server_hostname="127.0.0.1")
                if sent:
                    stream.write(sent)
                slow.append(stream)
            user = kit.authorities.user().context("teleport-dial")
            for sent in (b"", b"\0"):
                stream = await dial_tls(kit.addr, user, server_hostname=PROXY_NAME)
                if sent:
                    stream.write(sent)
                slow.append(stream)
            data = kit.authorities.host_credentials(N1).context("teleport-reversetunnel-data")
            slow.append(await dial_tls(kit.addr, data, server_hostname=PROXY_NAME))
            async with asyncio.timeout(2):
                await still_serves(kit)
                reply, served = await kit.dial("web-1")
                assert reply.error == ""
                assert await read_line(served)
                served.abort()
            async with asyncio.timeout(14):
                await asyncio.gather(*(closed(stream) for stream in slow))
            await agent.close()

    run(body(), deadline_s=40)


def test_a54_a_drip_of_header_bytes_does_not_keep_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_S", 0.6)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            web = client_context(roots_pem=kit.authorities.roots, alpn=("http/1.1",))
            stream = await dial_tls(kit.addr, web, server_hostname="127.0.0.1")
            stream.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.read_some()).startswith(b"HTTP/1.1 200")
            with pytest.raises(UnavailableError):
                async with asyncio.timeout(5):
                    for byte in b"GET /healthz HTTP/1.1\r\n" + b"X-Slow: y\r\n" * 100:
                        stream.write(bytes([byte]))
                        await stream.drain()
                        await asyncio.sleep(0.05)
            stream.abort()

    run(body())


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /webapi/mfa/login/finish HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n",
        b"POST /webapi/mfa/login/finish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"4000\r\n"
        + b"x" * 0x4000
        + b"\r\n"
        + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 60,
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /webapi/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
    ids=[
        "10-gb-body",
        "endless-chunks",
        "1-mb-header",
        "100k-headers",
        "1-mb-path",
        "two-lengths",
        "smuggling",
        "garbage",
    ],
)
def test_a54_oversized_and_broken_requests_are_refused_within_bounds(tmp_path: Path, request_: bytes) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            async with asyncio.timeout(10):
                answer = await https(kit, request_)
            assert re.match(rb"HTTP/1\.[01] 4(00|13|14|31)", answer) or answer == b""
            assert b"Traceback" not in answer
            assert not kit.auth.calls
            await still_serves(kit)

    run(body())


def test_a55_a_client_can_not_forge_its_address(tmp_path: Path) -> None:
    """No PROXY header is believed on the public port, not even one that is signed; no forwarded header is."""

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            agent_identity = kit.authorities.host(N1, SystemRole.PROXY)
            signer = HeaderSigner(
                cert_pem=agent_identity.tls_cert, key_pem=agent_identity.tls_private_pem, cluster="test"
            )
            signed = signer.sign(
                source=("192.0.2.9", 1),
                destination=("127.0.0.1", 2),
                audience=FOR_AUTH,
                now=kit.service.clock.now(),
            )
            for header in (b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n", signed):
                stream = await adopt(await connect(kit.addr))
                stream.write(header + client_hello(client_context(roots_pem=kit.authorities.roots)))
                assert await closed(stream)
            kit.auth.answer = deny
            body = b'{"user":"a","password":"b","ssh_pub_key":"eA==","tls_pub_key":"eA=="}'
            answer = await https(
                kit,
                b"POST /webapi/mfa/login/finish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"X-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body,
            )
            assert answer.startswith(b"HTTP/1.1 403")
            assert kit.auth.calls[0].client_addr == "127.0.0.1"

    run(body())


def test_a55_behind_a_balancer_exactly_one_forwarded_address_counts(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path, settings="  trust_x_forwarded_for: yes\n") as kit:
            kit.auth.answer = deny
            body = b'{"user":"a","password":"b","ssh_pub_key":"eA==","tls_pub_key":"eA=="}'
            head = (
                b"POST /webapi/ssh/certs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n"
                % len(body)
            )
            one = b"X-Forwarded-For: "
            for odd in (b"", b"1.2.3.4, 5.6.7.8", b"localhost", b"1.2.3.4\r\n" + one + b"5.6.7.8"):
                answer = await https(kit, head + one + odd + b"\r\n\r\n" + body)
                assert answer.startswith(b"HTTP/1.1 400")
            assert not kit.auth.calls
            await https(kit, head + one + b"192.0.2.4\r\n\r\n" + body)
            assert kit.auth.calls[0].client_addr == "192.0.2.4"

    run(body())


def test_a55_a_user_can_not_slip_the_agent_a_header_of_their_own(tmp_path: Path) -> None:
    """The agent's header is the proxy's; what the user sends comes after it, byte for byte."""

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            mine = kit.authorities.user().context("teleport-dial")
            stream = await dial_tls(kit.addr, mine, server_hostname=PROXY_NAME)
            forged = struct.pack(">H", 40) + b"\x81\xabclient_addr\xb0192.0.2.9:1234567"
            stream.write(encode_frame(UserDial(target="web-1")) + forged)
            await stream.read_exactly(int.from_bytes(await stream.read_exactly(2), "big"))
            assert b"127.0.0.1:" in await read_line(stream)
            assert await stream.read_exactly(len(forged)) == forged
            stream.abort()
            await agent.close()

    run(body())


def test_a50_guessing_is_throttled_per_source_and_others_are_served(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.auth.answer = deny
            body = b'{"user":"a","password":"b","ssh_pub_key":"eA==","tls_pub_key":"eA=="}'
            request = (
                b"POST /webapi/mfa/login/finish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            statuses = [(await https(kit, request, "127.0.0.5"))[9:12] for _ in range(60)]
            assert statuses[0] == b"403"
            assert set(statuses[45:]) == {b"429"}
            assert len(kit.auth.calls) <= limits.BURST
            assert (await https(kit, request, "127.0.0.6"))[9:12] == b"403"
            answer = await https(kit, request, "127.0.0.5")
            assert b"Retry-After" in answer
            assert b"too many requests" in answer

    run(body())


def test_a46_a_form_is_only_taken_from_the_browser_it_was_given_to(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.auth.answer = lambda request: SignupForm(
                user="u", cluster_name="c", second_factor="off", otp_secret="", otp_url=""
            )
            page = await https(kit, b"GET /web/invite/t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            csrf = re.search(rb'name="csrf" value="([0-9a-f]+)"', page)
            cookie = re.search(rb"Set-Cookie: (__Host-signup=[^;]+)", page)
            assert csrf
            assert cookie
            for flag in (b"HttpOnly", b"Secure", b"SameSite=Strict", b"Path=/"):
                assert flag in page
            good = [b"Cookie: " + cookie[1]]
            attempts = [
                ([], csrf[1]),
                (good, b"0" * 64),
                (good, b""),
                ([*good, b"Origin: https://evil.example"], csrf[1]),
                ([*good, b"Sec-Fetch-Site: cross-site"], csrf[1]),
                ([b"Cookie: __Host-signup=other"], csrf[1]),
            ]
            for headers, token in attempts:
                assert (await _post_form(kit, headers, token)).startswith(b"HTTP/1.1 403")
            assert all(type(call).__name__ == "GetSignup" for call in kit.auth.calls)
            assert (await _post_form(kit, good, csrf[1])).startswith(b"HTTP/1.1 200")

    run(body())


async def _post_form(kit: ProxyKit, headers: list[bytes], csrf: bytes) -> bytes:
    form = b"csrf=" + csrf + b"&password=aaaaaaaaaaaa&again=aaaaaaaaaaaa&otp="
    head = [
        b"POST /web/invite/t HTTP/1.1",
        b"Host: x",
        b"Connection: close",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Length: %d" % len(form),
        *headers,
    ]
    return await https(kit, b"\r\n".join(head) + b"\r\n\r\n" + form)
