"""How the programs of this installation are started: from a checkout, or as installed by pip."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from pkgs.common.runtime.services import Service

_MODULES: Final[dict[Service, str]] = {
    "auth": "pkgs.auth.main",
    "proxy": "pkgs.proxy.main",
    "ssh": "pkgs.agents.ssh.main",
    "db": "pkgs.agents.db.main",
}


def service_command(service: Service) -> list[str]:
    """The words that start the program of a service with this very Python."""
    for folder in (checkout_bin(), Path(sys.executable).parent):
        script = folder / f"teleport-{service}"
        if script.exists():
            return [sys.executable, "-I", str(script)]
    return [sys.executable, "-m", _MODULES[service]]


def checkout_bin() -> Path:
    """`bin/` beside this package; it exists only in a checkout."""
    return Path(__file__).resolve().parents[3] / "bin"


def program_dir() -> Path:
    """Where the launchers are, for units that start them by path."""
    return next(
        (d for d in (checkout_bin(), Path(sys.executable).parent) if (d / "teleport-auth").exists()),
        Path("/usr/local/bin"),
    )
