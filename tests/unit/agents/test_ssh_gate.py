"""What an agent that is not root serves, and what becoming a login refuses."""

from __future__ import annotations

import os
import pwd

import pytest

from pkgs.agents.ssh.gate import Gate
from pkgs.agents.ssh.messages import Account
from pkgs.agents.ssh.session.child import become


def account(login: str, *, single_user: bool) -> Account:
    return Account(
        login=login,
        user="alice",
        cluster="demo",
        host_id="h",
        proxy_addr="",
        permit_pty=True,
        permit_user_env=False,
        permit_file_copy=True,
        single_user=single_user,
    )


def test_an_agent_that_is_not_root_serves_its_own_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.getpwnam("daemon")
    monkeypatch.setattr(os, "geteuid", lambda: entry.pw_uid)
    assert Gate.cannot_become("daemon") == ""
    assert "runs as daemon and can only serve that login" in Gate.cannot_become("root")


def test_an_agent_that_is_root_may_serve_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Gate.cannot_become("daemon") == ""


def test_becoming_refuses_what_it_cannot_be() -> None:
    with pytest.raises(LookupError, match="there is no user"):
        become(account("no-such-user", single_user=True))
    other = "daemon" if os.geteuid() == 0 else "root"
    with pytest.raises(LookupError, match="only serve its own"):
        become(account(other, single_user=True))
