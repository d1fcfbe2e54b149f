"""How live sessions are shown, and how OpenSSH is told to join one or to ask for company."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pkgs.clients.tsh.sessions import company, joining, listing
from pkgs.clients.tsh.verbs.ssh import SPEC
from pkgs.common.api.sessions import Presence, SessionTracker
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Parser

HOSTILE = "x\x1b]52;c;aGk=\x07\x1b[2J\u202e"


def parsed(*argv: str) -> Parsed:
    return Parser(SPEC.flags, (), {}).all(SPEC, [*argv, "host"])


def hostile() -> SessionTracker:
    return SessionTracker(
        session_id="4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77",
        state="pending",
        created=1.0,
        host_user=HOSTILE,
        owner_cluster="c",
        host_roles=[HOSTILE],
        login=HOSTILE,
        cluster_name="c",
        target_hostname=HOSTILE,
        reason=HOSTILE,
        participants=[Presence(id="1", user=HOSTILE, cluster="c", mode="peer", last_active=1.0)],
    )


@pytest.mark.parametrize("format", ["text", "json", "yaml"])
def test_a64_what_others_chose_is_shown_inert(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    listing.show([hostile()], format)
    out = capsys.readouterr().out
    assert "4f6e2a10" in out
    assert not set(out) & {"\x1b", "\x07", "\u202e"}


def test_company_travels_in_variables_and_not_in_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    words = company.options(
        parsed("--reason=fix it", "--invite=bob, eve", "--invite=mo", "--participant-req")
    )
    assert words == [
        word
        for name in ("REASON", "INVITED_USERS", "PARTICIPANT_REQUIREMENTS")
        for word in ("-o", f"SendEnv=TELEPORT_SESSION_{name}")
    ]
    assert os.environ == {
        "TELEPORT_SESSION_REASON": "fix it",
        "TELEPORT_SESSION_INVITED_USERS": "bob,eve,mo",
        "TELEPORT_SESSION_PARTICIPANT_REQUIREMENTS": "true",
    }


def test_without_company_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    assert company.options(parsed()) == []
    assert os.environ == {}


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 5000])
def test_a_reason_that_no_server_takes_is_refused_here(reason: str) -> None:
    with pytest.raises(InputError, match="one printable line"):
        company.options(parsed(f"--reason={reason}"))


def test_the_login_for_joining_is_no_word_that_openssh_or_tsh_takes_for_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    login: Any = SimpleNamespace(
        cluster="demo",
        profile_name="proxy",
        proxy_addr="proxy:443",
        identity_file="",
        ssh_key=str(tmp_path / "id"),
        ssh_cert=str(tmp_path / "id-cert.pub"),
        known_hosts=str(tmp_path / "known_hosts"),
    )
    words = joining.options(login, "peer")
    config = Path(words[words.index("-F") + 1])
    assert words.count("-F") == 1
    assert config.read_text() == "User -teleport-internal-join\n"
    assert config.stat().st_mode & 0o077 == 0
    command = next(w for w in words if w.startswith("ProxyCommand=")).removeprefix("ProxyCommand=")
    assert shlex.split(command)[-2:] == ["--login=-teleport-internal-join", "%h:3022"]
    assert not [word for word in words if word.startswith("-teleport")]
    assert os.environ["TELEPORT_SSH_JOIN_MODE"] == "peer"
