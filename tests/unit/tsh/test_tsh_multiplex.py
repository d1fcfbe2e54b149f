"""The multiplexer's requests, and what OpenSSH is told about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.multiplex.place import config_block, socket_path
from pkgs.clients.tsh.multiplex.server import parse_request
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import InputError


def login(home: str = "/home/a/.tsh", name: str = "proxy.example.com") -> Login:
    return cast(Login, SimpleNamespace(home=home, profile_name=name, cluster="demo"))


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (b"root@web1.demo:3022", ("root", "web1")),
        (b"root@web1.demo:22", ("root", "web1:22")),
        (b"web1", ("", "web1")),
        (b"a@b@web1:0", ("a@b", "web1")),
        (b"root@web1.demo.demo:3022", ("root", "web1.demo")),
        (b"root@[::1]:22", ("root", "[::1]:22")),
    ],
)
def test_a_request_names_a_login_and_a_server(request_: bytes, found: tuple[str, str]) -> None:
    dial = parse_request(request_, "demo")
    assert (dial.login, dial.target) == found
    assert (dial.service, dial.cluster) == ("ssh", "demo")


@pytest.mark.parametrize(
    "request_", [b"", b"root@", b"root@.demo:3022", b"\xff", b"root@a\nb:22", b"a\x1b[0m:22"]
)
def test_what_names_no_server_is_refused(request_: bytes) -> None:
    with pytest.raises(InputError):
        parse_request(request_, "demo")


@pytest.mark.fuzz
@given(st.binary(max_size=600))
def test_any_request_is_understood_or_refused(data: bytes) -> None:
    try:
        dial = parse_request(data, "demo")
    except InputError:
        return
    assert dial.target
    assert (dial.login + dial.target).isprintable()


def test_the_configuration_is_used_only_while_a_multiplexer_runs() -> None:
    block = config_block(login(), 3022)
    assert (
        'Match host *.demo,!proxy.example.com exec "test -S /home/a/.tsh/multiplex/proxy.example.com"'
        in block
    )
    assert "\n    ProxyUseFdpass yes\n" in block
    assert "multiplex/handover.py /home/a/.tsh/multiplex/proxy.example.com %r@%h:%p\n" in block


@pytest.mark.parametrize(
    "home", ["/home/a b/.tsh", '/home/"/.tsh', "/home/%h", "/home/$(id)", "/home/\n", "/x" * 60, "/home/ü"]
)
def test_a_folder_that_openssh_or_a_shell_would_read_otherwise_is_refused(home: str) -> None:
    arguments: dict[str, Any] = {"home": home}
    with pytest.raises(InputError):
        socket_path(login(**arguments))
