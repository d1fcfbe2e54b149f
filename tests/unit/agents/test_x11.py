"""What a client may ask of X11 forwarding, and the folder where displays are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.x11 import folder, xauth
from pkgs.agents.ssh.x11.cookie import PROTOCOL, checked
from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.ssh.requests import X11Request

COOKIE = "00112233445566778899aabbccddeeff"


def test_what_openssh_sends() -> None:
    wanted = checked(X11Request(True, PROTOCOL, COOKIE.upper(), 3))
    assert (wanted.cookie, wanted.screen, wanted.single) == (COOKIE.upper(), 3, True)
    assert COOKIE not in repr(wanted).lower()


@pytest.mark.parametrize(
    ("protocol", "cookie", "screen"),
    [
        ("", COOKIE, 0),
        ("XDM-AUTHORIZATION-1", COOKIE, 0),
        (f"{PROTOCOL}\nsource /etc/shadow", COOKIE, 0),
        ("$(touch /tmp/x)", COOKIE, 0),
        (f"{PROTOCOL} ", COOKIE, 0),
        (PROTOCOL, "", 0),
        (PROTOCOL, COOKIE[:-2], 0),
        (PROTOCOL, COOKIE + "0", 0),
        (PROTOCOL, COOKIE * 5, 0),
        (PROTOCOL, f"{COOKIE}\nremove :0", 0),
        (PROTOCOL, f"{COOKIE}\n", 0),
        (PROTOCOL, "\u0660" * 32, 0),
        (PROTOCOL, COOKIE, 256),
        (PROTOCOL, COOKIE, 0xFFFFFFFF),
    ],
)
def test_hostile_requests_are_refused_without_their_words(protocol: str, cookie: str, screen: int) -> None:
    with pytest.raises(InputError) as refused:
        checked(X11Request(False, protocol, cookie, screen))
    for word in (protocol, cookie):
        assert len(word) < 20 or word not in str(refused.value)


@pytest.mark.fuzz
@given(protocol=st.text() | st.just(PROTOCOL), cookie=st.text() | st.binary(max_size=80).map(bytes.hex))
def test_only_hexadecimal_reaches_xauth(protocol: str, cookie: str) -> None:
    try:
        wanted = checked(X11Request(False, protocol, cookie, 0))
    except InputError:
        return
    assert protocol == PROTOCOL
    assert 16 <= len(bytes.fromhex(wanted.cookie)) <= 64
    assert wanted.cookie.isascii()
    assert wanted.cookie.isalnum()


def test_a58_the_folder_of_displays(tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder.make(made)
    assert made.stat().st_mode & 0o7777 == 0o1777
    folder.make(made)
    open_to_all, link, file = tmp_path / "open", tmp_path / "link", tmp_path / "file"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link.symlink_to(made)
    file.touch()
    for bad in (open_to_all, link, file, tmp_path / "none" / "none"):
        with pytest.raises(UnavailableError):
            folder.make(bad)
        with pytest.raises(UnavailableError):
            folder.check(bad)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_a58_a_folder_of_displays_of_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(UnavailableError, match="root"):
        folder.make(tmp_path)


def test_a_host_without_xauth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xauth, "_PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="not installed"):
        xauth.write(tmp_path / "x", ":10", COOKIE)


@pytest.mark.parametrize("script", ["exit 1", "cat >/dev/null", "exec sleep 30"])
def test_an_xauth_that_does_not_do_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "xauth"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(xauth, "_PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(xauth, "XAUTH_S", 0.3)
    with pytest.raises(UnavailableError) as failed:
        xauth.write(tmp_path / "x", ":10", COOKIE)
    assert COOKIE not in str(failed.value)


@pytest.mark.needs("xauth")
def test_the_real_xauth_writes_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "Xauthority"
    xauth.write(file, ":1234", COOKIE)
    assert file.stat().st_mode & 0o777 == 0o600
    listed = subprocess.run(
        ["xauth", "-f", str(file), "list"], capture_output=True, check=True
    ).stdout.decode()
    assert listed.split()[1:] == [PROTOCOL, COOKIE]
    assert "unix:1234" in listed
