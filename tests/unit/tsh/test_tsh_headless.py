"""`tsh headless approve`: what is asked, and what is said to the cluster meanwhile."""

from __future__ import annotations

import pytest

from pkgs.clients.tsh.verbs.headless import approve
from pkgs.common.api.headless import DecideHeadless, GetHeadless, HeadlessRequest
from pkgs.common.api.login import Done
from pkgs.common.output.argv import Parser

ID = "0f1c2c0e-5b5e-5d5f-8a55-0f6d2e6f8b1a"


class Auth:
    """The Auth API by connections that are counted."""

    def __init__(self) -> None:
        self.connections = 0
        self.calls: list[object] = []

    def __call__(self, _: object) -> Auth:
        self.connections += 1
        return self

    def call(self, request: object) -> object:
        self.calls.append(request)
        if isinstance(request, GetHeadless):
            return HeadlessRequest(headless_id=ID, user="mira", client_addr="203.0.113.7", created=0.0)
        return Done()

    def close(self) -> None:
        self.connections -= 1


def test_no_connection_is_kept_while_somebody_looks_for_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cluster closes a connection that is idle for half a minute."""
    auth, open_at_prompt = Auth(), []

    def code(*_: object) -> str:
        open_at_prompt.append(auth.connections)
        return "123456"

    def confirmed() -> bool:
        open_at_prompt.append(auth.connections)
        return True

    monkeypatch.setattr(approve, "auth_client", auth)
    monkeypatch.setattr(approve, "current", lambda _: None)
    monkeypatch.setattr(approve, "_confirmed", confirmed)
    monkeypatch.setattr(approve.ask, "one_time_code", code)
    assert approve.run(Parser(approve.SPEC.flags, (), {}).all(approve.SPEC, [ID])) == 0
    assert open_at_prompt == [0, 0]
    assert auth.calls == [
        GetHeadless(headless_id=ID),
        DecideHeadless(headless_id=ID, approve=True, otp="123456"),
    ]
    assert auth.connections == 0
    assert "approved" in capsys.readouterr().out
