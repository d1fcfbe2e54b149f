"""The commands that judge and restart sshd, as the administrator named them. Never by a shell."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pkgs.clients.teleport.openssh.text import Effective, parse_effective
from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.output.sanitize import inert

CHECK_COMMAND: Final = "sshd -t -f"
COMMAND_S: Final = 60.0
"""For one of them to end."""
MAX_SHOWN: Final = 2000
"""Characters of what a command says that go into an error."""
_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_UNITS: Final = ("ssh", "sshd")


class Sshd:
    """One sshd of this host."""

    def __init__(self, check_command: str, restart_command: list[str]) -> None:
        """`check_command` is completed by the path of a configuration. An empty `restart_command`: leave it
        running as it is."""
        self._check = _words("--sshd-check-command", check_command)
        if "-t" not in self._check:
            raise InputError("--sshd-check-command: has no -t", hint=f"for example `{CHECK_COMMAND}`")
        self._restart = restart_command

    @property
    def restarts(self) -> bool:
        return bool(self._restart)

    def effective(self, config: str) -> Effective:
        """What a configuration means to sshd, its includes and defaults in it. Raises InputError."""
        words = ["-T" if word == "-t" else word for word in self._check]
        return parse_effective(self._judge(words, config))

    def check(self, config: str) -> None:
        """InputError unless sshd would start with this configuration."""
        self._judge(self._check, config)

    def restart(self) -> None:
        """Make it read its configuration. Raises UnavailableError."""
        if self._restart:
            done = _run(self._restart)
            if done.returncode != 0:
                raise UnavailableError(
                    f"`{shlex.join(self._restart)}` ended with {done.returncode}: {_said(done)}"
                )

    def _judge(self, words: list[str], config: str) -> str:
        with tempfile.TemporaryDirectory(prefix="teleport-sshd-") as folder:
            path = Path(folder) / "sshd_config"
            path.write_text(config, errors="surrogateescape")
            done = _run([*words, str(path)])
        if done.returncode != 0:
            raise InputError(
                f"sshd refuses the configuration: {_said(done).replace(str(path), 'sshd_config')}"
            )
        return done.stdout


def restart_command(given: str, *, wanted: bool) -> list[str]:
    """The words that restart sshd, found by themselves where systemd runs. Raises InputError."""
    if not wanted:
        if given:
            raise InputError("--sshd-restart-command and --no-restart-sshd exclude each other")
        return []
    if given:
        return _words("--sshd-restart-command", given)
    systemctl = shutil.which("systemctl", path=_PATH)
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        raise InputError(
            "systemd does not run here, so how to restart sshd is not known",
            hint="name a command with --sshd-restart-command, or restart it yourself with --no-restart-sshd",
        )
    active = (unit for unit in _UNITS if not _run([systemctl, "is-active", "--quiet", unit]).returncode)
    return [systemctl, "reload-or-restart", next(active, _UNITS[-1])]


def _words(flag: str, text: str) -> list[str]:
    """A command with its program as a path: sshd must be started by one."""
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise InputError(f"{flag}: {problem}") from None
    program = shutil.which(words[0], path=_PATH) if words else None
    if program is None:
        raise InputError(f"{flag}: there is no program {words[0] if words else ''!r}")
    return [program, *words[1:]]


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"`{shlex.join(words)}` did not end within {COMMAND_S:g} seconds") from None
    except OSError as problem:
        raise UnavailableError(f"`{words[0]}` cannot be run: {problem.strerror}") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [inert(line) for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return "; ".join(lines)[:MAX_SHOWN] or "it says nothing"
