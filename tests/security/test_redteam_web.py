"""Requests whose bytes are no text: refused in words, never an internal error with a traceback in the log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.proxy_kit import proxy, run
from tests.security.proxy_attack_kit import https

LOGIN = b'{"user":"a","password":"b","ssh_pub_key":"eA==","tls_pub_key":"eA=="}'
FORM = b"application/x-www-form-urlencoded"


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    size = b"Content-Length: %d" % len(body)
    return b"\r\n".join((line + b" HTTP/1.1", b"Host: x", b"Connection: close", size, *headers, b"", body))


def form(body: bytes, content_type: bytes = FORM, *headers: bytes) -> bytes:
    return request(b"POST /web/invite/aa", b"Content-Type: " + content_type, *headers, body=body)


def part(*headers: bytes, body: bytes = b"abc") -> bytes:
    lines = (b"--x", b'Content-Disposition: form-data; name="csrf"', *headers, b"", body, b"--x--", b"")
    return b"\r\n".join(lines)


MULTIPART = b"multipart/form-data; boundary=x"
REQUESTS = {
    "a user agent": request(b"POST /webapi/mfa/login/finish", b"User-Agent: \xff\xfe", body=LOGIN),
    "a path": request(b"GET /web/invite/\xff\xfe"),
    "a header line": request(b"GET /web", b"no colon"),
    "a host": request(b"GET /web", b"X: y").replace(b"Host: x", b"Host: \xff"),
    "a cookie": form(b"csrf=a", FORM, b"Cookie: __Host-signup=\xff\xfe"),
    "a JSON string": request(b"POST /webapi/mfa/login/finish", body=LOGIN.replace(b'"a"', b'"\xff"')),
    "half a surrogate pair": request(
        b"POST /webapi/mfa/login/finish", body=LOGIN.replace(b'"a"', b'"\\ud800"')
    ),
    "a form": form(b"csrf=\xff"),
    "an escape in a form": form(b"csrf=%ff&password=%ed%a0%80"),
    "a charset nobody knows": form(b"csrf=a", FORM + b"; charset=bogus"),
    "a charset that is none": form(b"csrf=a", FORM + b"; charset=base64"),
    "a thousand fields": form(b"&".join([b"a=b"] * 1000)),
    "a part in a charset nobody knows": form(part(b"Content-Type: text/plain; charset=bogus"), MULTIPART),
    "a part that does not decode": form(part(b"Content-Transfer-Encoding: base64", body=b"!!!"), MULTIPART),
    "parts without a boundary": form(b"xx", b"multipart/form-data"),
    "parts within parts": form(
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n", MULTIPART
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a54_a_request_that_is_no_text_is_refused_in_words(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            answer = await https(kit, REQUESTS[what])
            assert re.match(rb"HTTP/1\.[01] 4(00|03)", answer), answer
            assert not kit.auth.calls

    run(body())
    assert not [record for record in caplog.records if record.exc_info]
