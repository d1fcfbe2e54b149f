"""sshd's configuration as `teleport join openssh` reads and changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.teleport.openssh.install import Material
from pkgs.clients.teleport.openssh.settings import Settings, load_settings, store_settings
from pkgs.clients.teleport.openssh.sshd import Sshd, restart_command
from pkgs.clients.teleport.openssh.text import (
    Effective,
    check_path,
    parse_effective,
    snippet,
    with_include,
    without_include,
)
from pkgs.common.errors import InputError

INCLUDE = Path("/var/lib/teleport/openssh/sshd.conf")
SHOWN = """\
port 2022
port 22
pubkeyauthentication no
hostkey /etc/ssh/ssh_host_rsa_key
hostkey /etc/ssh/ssh_host_ed25519_key
trustedusercakeys none
authorizedprincipalsfile /etc/ssh/principals/%u
"""


def test_what_sshd_says_of_itself() -> None:
    assert parse_effective(SHOWN) == Effective(
        port=2022,
        host_keys=("/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ed25519_key"),
        principals_file="/etc/ssh/principals/%u",
        public_keys=False,
    )
    assert parse_effective("trustedusercakeys /etc/ssh/ca.pub\n").user_authorities == "/etc/ssh/ca.pub"


@pytest.mark.fuzz
@given(st.text())
def test_any_answer_of_sshd_is_read(text: str) -> None:
    assert 0 <= parse_effective(text).port <= 99999


@pytest.mark.fuzz
@given(st.text())
def test_the_include_comes_first_once_and_goes_without_a_trace(config: str) -> None:
    before = without_include(config, INCLUDE)
    once = with_include(config, INCLUDE)
    assert once.splitlines()[1] == f"Include {INCLUDE}"
    assert with_include(once, INCLUDE) == once
    assert without_include(once, INCLUDE) == before


def test_the_keys_that_sshd_has_stay_and_come_first() -> None:
    assert snippet(["/etc/ssh/key"], Path("/d")).splitlines()[1:] == [
        "HostKey /etc/ssh/key",
        "HostKey /d/host_key",
        "HostCertificate /d/host_key-cert.pub",
        "TrustedUserCAKeys /d/user_ca.pub",
    ]


@pytest.mark.parametrize("path", ["relative", "/a b", "/a\nb", '/a"b', "/a*", "/a%u", "/é"])
def test_a_path_that_sshd_would_read_otherwise_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        check_path(Path(path), "--data-dir")
    with pytest.raises(InputError):
        snippet([path], Path("/d"))


@pytest.mark.parametrize("command", ["", "'", "no-such-program -t -f", "true"])
def test_a_command_that_cannot_judge_is_refused(command: str) -> None:
    with pytest.raises(InputError):
        Sshd(command, [])


def test_a_restart_is_named_or_declined() -> None:
    assert restart_command("", wanted=False) == []
    assert restart_command("true now", wanted=True)[1:] == ["now"]
    with pytest.raises(InputError):
        restart_command("true", wanted=False)


def test_settings_are_private_and_come_back(tmp_path: Path) -> None:
    settings = Settings(
        proxy_server="p:443",
        labels={"a": "b"},
        openssh_config="/etc/ssh/sshd_config",
        check_command="sshd -t -f",
    )
    with pytest.raises(InputError):
        load_settings(tmp_path)
    store_settings(tmp_path, settings)
    assert load_settings(tmp_path) == settings
    file = tmp_path / "openssh" / "join.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{}")
    with pytest.raises(InputError):
        load_settings(tmp_path)


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Material(private_pem=b"secret", certificate="", user_authorities=()))
