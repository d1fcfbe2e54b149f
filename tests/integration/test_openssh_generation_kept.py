"""A refused configuration never takes away the files that sshd is using."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.clients.teleport.openssh.install import Installation, Material
from pkgs.clients.teleport.openssh.sshd import Sshd
from pkgs.common.errors import InputError

_MATERIAL = Material(private_pem=b"key\n", certificate="certificate", user_authorities=("authority",))


def test_a_refusal_keeps_the_generation_that_is_in_use(tmp_path: Path) -> None:
    refuses = tmp_path / "refuses"
    program = tmp_path / "sshd"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -T ]; then printf "port 22\\nhostkey /etc/ssh/key\\n"; exit 0; fi\n'
        f'[ ! -e "{refuses}" ]\n'
    )
    program.chmod(0o700)
    config = tmp_path / "sshd_config"
    config.write_text("Port 22\n")
    place = Installation(tmp_path / "data", config, Sshd(f"{program} -t -f", []))
    assert place.install(_MATERIAL)
    keys = list((tmp_path / "data" / "openssh").glob("*/host_key"))
    assert len(keys) == 1

    config.write_text("Port 22\n")  # somebody has taken the Include out; the next check fails
    refuses.touch()
    with pytest.raises(InputError):
        place.install(_MATERIAL)

    assert keys[0].read_bytes() == b"key\n"
