"""What OpenSSH is told: only this login's certificates count, and nothing of the user's words is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.main import TOOL
from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.certfacts import CertFacts
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.verbs import config, scp, signup, ssh
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Parsed, Parser


def make_login(logins: list[str] | None = None, where: str = "/h/.tsh") -> Login:
    profile = home.Profile("hub", "hub:3080", "alice", "demo")
    facts = CertFacts("alice", logins or ["root"], 0, 2**62, {})
    return Login(home_dir=where, profile=profile, paths=home.Paths(where, profile), facts=facts)


def args(*words: str) -> Parsed:
    return Parser(ssh.SPEC.flags, TOOL.common, {}).all(ssh.SPEC, list(words))


def test_every_check_is_locked_in_front_of_the_users_options() -> None:
    words = openssh.locked_options(make_login(), port="3022")
    options = [word for word in words if "=" in word]
    for wanted in (
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        'UserKnownHostsFile="/h/.tsh/known_hosts"',
        "GlobalKnownHostsFile=/dev/null",
        'IdentityFile="/h/.tsh/keys/hub/alice"',
        'CertificateFile="/h/.tsh/keys/hub/alice-ssh/demo-cert.pub"',
        "PreferredAuthentications=publickey",
    ):
        assert wanted in options
    assert words[:2] == ["-F", "/dev/null"]


def test_the_proxy_command_is_this_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "odd 100% name" / "tsh"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    command = openssh.proxy_command(make_login(), port="3022")
    started = f"{sys.executable} -I '{tmp_path}/odd 100%% name/tsh'"
    assert command == f"{started} proxy ssh --jumphost=none --cluster=demo --proxy=hub %r@%h:3022"


@pytest.mark.parametrize(
    "host", ["$(id)", "a b", "-oProxyCommand=x", "a;b", "", "a'b", "x" * 300, "a\nb", "`id`", "a/b"]
)
def test_host_names_that_a_shell_would_read_are_refused(host: str) -> None:
    with pytest.raises(InputError):
        openssh.host_name(make_login(), host)


@pytest.mark.parametrize("login", ["-l", "$(id)", "a b", "", "a;b", "ro ot", "x" * 200])
def test_logins_that_a_shell_would_read_are_refused(login: str) -> None:
    with pytest.raises(InputError):
        openssh.check_login(login)


def test_names_with_and_without_the_cluster() -> None:
    login = make_login()
    assert openssh.host_name(login, "web") == "web.demo"
    assert openssh.host_name(login, "web.demo") == "web.demo"
    assert openssh.strip_cluster(login, "web.demo") == "web"


@pytest.mark.parametrize(
    "option",
    [
        "ProxyCommand=x",
        "StrictHostKeyChecking=no",
        "IdentityFile=x",
        "UserKnownHostsFile=/dev/null",
        "LocalCommand=x",
        "KnownHostsCommand=x",
        "HostKeyAlias=x",
        "Include=x",
        "PKCS11Provider=x",
        "User=x",
        "proxyjump x",
    ],
)
def test_options_that_undo_a_check_are_refused(option: str) -> None:
    with pytest.raises(InputError, match="-o"):
        ssh._words(args("-o", option, "h"))


def test_flags_become_openssh_words() -> None:
    given = args("-L", "1:h:2", "-D", "1080", "-R", "3:h:4", "-N", "-t", "-A", "-o", "ConnectTimeout=5", "h")
    assert ssh._words(given) == [
        "-L", "1:h:2", "-R", "3:h:4", "-D", "1080", "-A", "-N", "-t", "-o", "ConnectTimeout=5",
    ]  # fmt: skip
    assert ssh._words(args("-X", "h")) == ["-X", "-o", "ForwardX11Timeout=10m"]
    assert ssh._words(args("-Y", "--x11-untrusted-timeout=1h", "h")) == ["-Y"]
    assert ssh._words(args("-x", "h")) == ["-x"]


def test_the_default_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "carol")
    assert ssh.default_login(make_login(["root"]), args("h")) == "root"
    assert ssh.default_login(make_login(["root", "carol"]), args("h")) == "carol"
    assert ssh.default_login(make_login(["root", "ubuntu"]), args("h")) == "carol"
    assert ssh.default_login(make_login(["root"]), args("-l", "deploy", "h")) == "deploy"


def test_a_login_that_no_role_gives_is_told_before_openssh_says_permission_denied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ssh.warn_of_login(make_login(["root", "carol"]), "carol")
    assert capsys.readouterr().err == ""
    ssh.warn_of_login(make_login(["root", "carol"]), "deploy")
    assert "you be deploy" in (said := capsys.readouterr().err) and "root, carol" in said
    ssh.warn_of_login(make_login(["no-login-7"]), "root")
    assert "you have the logins: none" in capsys.readouterr().err


def test_scp_places() -> None:
    login, given = make_login(), Parser(scp.SPEC.flags, TOOL.common, {}).all(scp.SPEC, ["a", "b"])
    names = {"web": "web"}
    assert scp._place(login, given, "root@web:/x y", names) == (True, "root@web.demo:/x y")
    assert scp._place(login, given, "web:", names) == (True, "root@web.demo:")
    assert scp._place(login, given, "./a:b", names) == (False, "./a:b")
    assert scp._place(login, given, "-odd", names) == (False, "./-odd")
    with pytest.raises(InputError):
        scp._place(login, given, "$(id):x", {"$(id)": "$(id)"})


def test_the_config_block() -> None:
    block = openssh.config_block(make_login(), 3022)
    assert "Host *.demo hub\n" in block
    assert "Host *.demo !hub\n    Port 3022\n" in block
    assert "proxy ssh --cluster=demo --proxy=hub %r@%h:%p" in block
    assert "IdentitiesOnly yes" in block


def test_a_missing_openssh_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "relative:/nonexistent")
    with pytest.raises(NotFoundError, match="OpenSSH"):
        openssh.program("ssh")


def test_invitation_links() -> None:
    for link in (
        "https://hub:3080/web/invite/abcdef0123456789",
        "https://[::1]:3080/web/reset/abcdef0123456789",
    ):
        assert signup._LINK.match(link)
    for bad in ("http://hub/web/invite/abcdef0123456789", "https://hub/web/invite/../x", "https://hub/web/invite/abcdefgh\nx",
                "https://user@hub/web/invite/abcdef0123456789", "javascript:x", ""):  # fmt: skip
        assert not signup._LINK.match(bad)


def test_a_shorter_clusters_block_does_not_take_the_hosts_of_a_longer() -> None:
    def of(cluster: str, name: str) -> Login:
        profile = home.Profile(name, f"{name}:3080", "alice", cluster)
        facts = CertFacts("alice", ["root"], 0, 2**62, {})
        return Login(home_dir="/h", profile=profile, paths=home.Paths("/h", profile), facts=facts)

    logins = [of("corp", "one"), of("eu.corp", "two"), of("corp", "three")]
    assert [login.profile_name for login in config.in_order(logins)] == ["two", "one", "three"]
