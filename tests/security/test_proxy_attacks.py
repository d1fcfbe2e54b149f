"""Attacks of the checklist against the proxy's public port. One named test each; all from the outside."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from pkgs.common.api.login import SignupForm
from pkgs.common.api.tunnel import DataHello, OpenTunnel, UserDial
from pkgs.common.errors import AccessError, DeniedError, UnavailableError
from pkgs.common.net.dial import dial_tls, split_host_port
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.proxyproto.signed import FOR_AUTH, HeaderSigner
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.proxy import limits
from tests.harness.wait import until
from tests.integration.proxy_kit import (
    PROXY_NAME,
    Agent,
    Authorities,
    Credentials,
    ProxyKit,
    node,
    proxy,
    read_line,
    run,
)

N1 = "11111111-1111-4111-8111-111111111111"
N2 = "22222222-2222-4222-8222-222222222222"


async def connect(addr: str, source: str = "127.0.0.1") -> socket.socket:
    """A plain connection from a loopback address of one's choice."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, split_host_port(addr))
    return sock


async def dial_from(kit: ProxyKit, source: str, credentials: Credentials, target: str) -> Stream:
    sock = await connect(kit.addr, source)
    stream = await start_tls(sock, credentials.context("teleport-dial"), server_hostname=PROXY_NAME)
    stream.write(encode_frame(UserDial(target=target)))
    return stream


async def closed(stream: Stream) -> bool:
    """Whether the other side ends it."""
    try:
        while await stream.read_some():
            pass
    except UnavailableError:
        pass
    stream.abort()
    return True


async def https(kit: ProxyKit, request: bytes, source: str = "127.0.0.1") -> bytes:
    """A raw request; everything the server says until it closes."""
    sock = await connect(kit.addr, source)
    context = client_context(roots_pem=kit.authorities.roots, alpn=("http/1.1",))
    stream = await start_tls(sock, context, server_hostname="127.0.0.1")
    answer = b""
    try:
        stream.write(request)
        await stream.drain()
        while more := await stream.read_some():
            answer += more
    except UnavailableError:
        pass
    stream.abort()
    return answer


async def still_serves(kit: ProxyKit) -> None:
    answer = await https(kit, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a12_a_pinned_certificate_from_another_address_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            pinned = kit.authorities.user(source_addr="127.0.0.1")
            reply, stream = await kit.dial("web-1", pinned)
            assert reply.error == ""
            stream.abort()
            elsewhere = await dial_from(kit, "127.0.0.2", pinned, "web-1")
            answer = await elsewhere.read_some()
            assert b"may not be used from this address" in answer
            assert await closed(elsewhere)
            far = kit.authorities.user(source_addr="192.0.2.1")
            assert "address" in (await kit.refused("web-1", far)).error
            refusals = [event for event in kit.events if event.event == "auth"]
            assert [(one.fields["user"], one.fields["addr.remote"][:9]) for one in refusals] == [
                ("alice", "127.0.0.2"),
                ("alice", "127.0.0.1"),
            ]
            assert all("pinned to" in str(one.fields["error"]) for one in refusals)
            await agent.close()

    run(body())


def test_a14_a_locked_user_is_refused_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            kit.cache.locks = (
                Lock(
                    metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice"), message="why")
                ),
            )
            reply = await kit.refused("web-1")
            assert "why" not in reply.error
            _, stream = await kit.dial("web-1", kit.authorities.user("bob"))
            stream.abort()
            await agent.close()

    run(body())


def test_a18_a_forbidden_server_reads_like_none_and_is_audited(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1", env="prod"))
            agent = await kit.agent(N1)
            limited = kit.authorities.user("carol", roles=("staging",))
            for target, missing in (("web-1", "web-2"), (N1, N2), ("env=prod", "env=prox")):
                forbidden = await kit.refused(target, limited)
                assert kit.events[-1].code == "T3007W"
                assert kit.events[-1].fields["user"] == "carol"
                unknown = await kit.refused(missing, limited)
                assert forbidden.error.replace(target, missing) == unknown.error
                assert forbidden.hint == unknown.hint
            assert len(kit.events) == 3
            await agent.close()

    run(body())


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1",
        "127.0.0.1:3025",
        "localhost:22",
        "169.254.169.254:80",
        "[::1]:22",
        "0.0.0.0:22",
        "/var/lib/teleport/debug.sock",
        "unix:/var/lib/teleport/debug.sock",
        "http://127.0.0.1/",
        "example.com:22",
    ],
)
def test_a20_only_registered_servers_can_be_dialled(tmp_path: Path, target: str) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            await kit.refused(target)
            await still_serves(kit)

    run(body())


def test_a20_an_agent_can_not_register_an_address_that_is_not_its_own(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path, auth_addrs=("127.0.0.1:3025",)) as kit:
            for addr in (
                kit.addr,
                kit.ssh_addr,
                "127.0.0.1:3025",
                "169.254.169.254:80",
                "localhost:3025",
                "0.0.0.0:22",
            ):
                kit.add(node(N1, "web-1", addr=addr))
                reply = await kit.refused("web-1")
                assert reply.error == "server 'web-1' does not answer"

    run(body())


def test_a21_the_proxy_itself_is_no_server(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            for target in ("proxy-host", kit.member.identity.host_id, kit.addr, ""):
                await kit.refused(target)
            kit.add(node(N1, "web-1"))
            assert "not served" in (await kit.refused("web-1", service="sftp")).error
            assert "not known" in (await kit.refused("web-1", cluster="leaf")).error

    run(body())


def test_a02_a07_certificates_of_others_and_out_of_time_open_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            agent = await kit.agent(N1)
            stranger = Authorities("test")
            shown = [
                Credentials(stranger.user().cert, stranger.user().key, kit.authorities.roots),
                kit.authorities.user(ttl_s=-10, began_ago_s=100),
                kit.authorities.user(began_ago_s=-3600, ttl_s=7200),
                kit.authorities.host_credentials(N2),
            ]
            for credentials in shown:
                with pytest.raises(AccessError):
                    await kit.dial("web-1", credentials)
            with pytest.raises(AccessError):
                nobody = client_context(roots_pem=kit.authorities.roots, alpn=("teleport-dial",))
                stream = await dial_tls(kit.addr, nobody, server_hostname=PROXY_NAME)
                stream.write(encode_frame(UserDial(target="web-1")))
                try:
                    await stream.read_exactly(1)
                finally:
                    stream.abort()
            gone = kit.authorities.user(roles=("access", "deleted"))
            assert (await kit.refused("web-1", gone)).error == "access denied"
            await agent.close()

    run(body())


def test_a39_only_the_agent_that_was_asked_may_answer_a_dial(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.add(node(N1, "web-1"))
            victim = await kit.agent(N1, spares=False)
            other = await kit.agent(N2)

            async def silent(dial_id: str) -> None:
                return

            victim._carry = silent  # type: ignore[method-assign]
            dialling = asyncio.create_task(kit.dial("web-1"))
            await until(lambda: any(victim.asked))
            dial_id = next(filter(None, victim.asked))
            thief = await other.data(dial_id)
            assert await closed(thief)
            honest = await victim.data(dial_id)
            assert (await honest.read_some())[:1]
            reply, stream = await dialling
            assert reply.host_id == N1
            stream.abort()
            for agent in (victim, other):
                await agent.close()

    run(body())


def test_a40_users_and_proxies_can_not_open_a_tunnel(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            host, port = split_host_port(kit.addr)
            for credentials in (
                kit.authorities.user(),
                kit.authorities.host_credentials(N1, SystemRole.PROXY),
                kit.authorities.host_credentials(N1, SystemRole.AUTH),
            ):
                context = credentials.context("teleport-reversetunnel")
                client = RpcClient(
                    Endpoint(host=host, port=port, ssl_context=context, server_hostname=PROXY_NAME)
                )
                with pytest.raises(AccessError):
                    async for _ in client.stream(OpenTunnel(services=["ssh"]), deadline_s=3):
                        pass
                await client.close()
            assert kit.service.tunnels.hosts == 0
            for credentials in (kit.authorities.user(), kit.authorities.host_credentials(N1)):
                agent = Agent(kit.addr, credentials, N1)
                with contextlib.suppress(AccessError):
                    assert await closed(await agent.data(""))
                await agent.close()

    run(body())


def test_a39_an_agent_can_not_leave_more_spares_than_allowed(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            agent = await kit.agent(N1)
            streams = [await agent.data("") for _ in range(30)]
            assert await closed(streams[-1])
            assert kit.service.tunnels.spares <= limits.SPARES_MAX
            talker = streams[0]
            talker.write(encode_frame(DataHello()))
            assert await closed(talker)
            await agent.close()

    run(body())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff" + b"x" * 100,
        b"\0\0",
        b"\0\x05\x91\x91\x91\x91\x91",
        b"\0\x03\xa1x\xc0",
        b"\x3f\xff" + b"\x91" * 16383,
    ],
)
def test_a43_a_broken_dial_frame_is_refused_in_words(tmp_path: Path, raw: bytes) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            context = kit.authorities.user().context("teleport-dial")
            stream = await dial_tls(kit.addr, context, server_hostname=PROXY_NAME)
            stream.write(raw)
            answer = await stream.read_some()
            assert b"frame" in answer
            assert await closed(stream)
            await still_serves(kit)

    run(body())


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
            hello = _hello(web)
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


def _hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


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
                stream.write(header + _hello(client_context(roots_pem=kit.authorities.roots)))
                assert await closed(stream)
            kit.auth.answer = _deny
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
            kit.auth.answer = _deny
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


def _deny(request: Any) -> None:
    raise DeniedError("invalid username, password or one-time code")


def test_a50_guessing_is_throttled_per_source_and_others_are_served(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            kit.auth.answer = _deny
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
