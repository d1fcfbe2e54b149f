"""Errors of the proxy's web API in the user's words, and which ports are tried."""

from __future__ import annotations

import base64

import pytest

from pkgs.clients.tsh.login import webapi
from pkgs.clients.tsh.login.webapi import HostSigner, LoginAnswer, Pong
from pkgs.clients.tsh.profile import store
from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InternalError,
    LimitExceededError,
    ProtocolError,
    UnavailableError,
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (403, b'{"error":{"message":"invalid username","code":"denied"}}', DeniedError, "invalid username"),
        (429, b'{"error":{"message":"slow down","code":"limit"}}', LimitExceededError, "slow down"),
        (400, b'{"error":{"message":"too short","code":"bad-input"}}', DeniedError, "too short"),
        (502, b"<html>bad gateway</html>", InternalError, "hub:1 answered with HTTP status 502"),
        (418, b'{"error":{"message":"x","code":"made-up"}}', InternalError, "x"),
    ],
)
def test_errors(status: int, body: bytes, kind: type[AccessError], message: str) -> None:
    error = webapi._error(status, body, "hub:1")
    assert type(error) is kind
    assert message in str(error)
    assert isinstance(error, AccessError) and error.exit_status == 1


def test_without_a_port_the_usual_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def ping(self: webapi.WebApi) -> Pong:
        tried.append(self.addr)
        if self.addr.endswith(":443"):
            raise UnavailableError("closed")
        return Pong(cluster_name="demo")

    monkeypatch.setattr(webapi.WebApi, "ping", ping)
    assert webapi.connect("hub", insecure=True)[0].addr == "hub:3080"
    assert webapi.connect("::1", insecure=True)[0].addr == "[::1]:3080"
    assert webapi.connect("[::1]:99", insecure=True)[0].addr == "[::1]:99"
    assert webapi.connect("hub:99", insecure=True)[0].addr == "hub:99"
    assert tried == ["hub:443", "hub:3080", "[::1]:443", "[::1]:3080", "[::1]:99", "hub:99"]
    monkeypatch.setattr(webapi, "DEFAULT_PORTS", (443,))
    with pytest.raises(UnavailableError, match="closed"):
        webapi.connect("hub", insecure=True)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("user", "cluster"), [("../../x", "demo"), ("alice", "../demo"), ("mallory", "demo"), ("alice", "")]
)
def test_names_in_an_answer_that_would_become_paths_are_refused(user: str, cluster: str) -> None:
    answer = LoginAnswer(
        username=user,
        cluster_name=cluster,
        cert=_b64("ssh-ed25519-cert-v01@openssh.com AAAA"),
        tls_cert=_b64("x"),
        host_signers=[
            HostSigner(type="host", domain_name="d", checking_keys=[_b64("k")], tls_certs=[_b64("c")])
        ],
    )
    with pytest.raises(ProtocolError):
        store.Issued(answer, user="alice")


def test_an_answer_that_is_no_base64_is_refused() -> None:
    with pytest.raises(ProtocolError):
        store.Issued(LoginAnswer(username="alice", cert="!!", tls_cert="!!"), user="alice")
