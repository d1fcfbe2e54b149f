"""What each program loads before it does anything: heavy modules are counted, not milliseconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAVY = frozenset(
    {
        *("aiohttp", "argon2", "asyncio", "bcrypt", "click", "cryptography", "ctypes", "email", "h11"),
        *(
            "http.client",
            "invoke",
            "jinja2",
            "logging",
            "msgspec",
            "multiprocessing",
            "nacl",
            "paramiko",
            "pydantic",
        ),
        *("re2", "rich", "segno", "socket", "sqlite3", "ssl", "subprocess", "textual", "tinydb", "typer"),
        *("unittest", "urllib.request", "uvloop", "yaml", "zmq"),
    }
)
# Comes along with cryptography, asyncio or msgspec wherever they are allowed.
SERVICE = frozenset(
    {
        *("asyncio", "bcrypt", "cryptography", "ctypes", "email", "h11", "logging", "msgspec", "re2"),
        *("socket", "ssl", "subprocess", "yaml"),
    }
)

PROGRAMS: dict[str, tuple[list[str], frozenset[str]]] = {
    "pkgs.clients.tsh.main": (["version"], frozenset()),
    "pkgs.clients.tctl.main": (["version"], frozenset()),
    "pkgs.clients.teleport.main": (["version"], frozenset()),
    "pkgs.auth.main": (["--version"], SERVICE | {"argon2", "sqlite3", "tinydb", "zmq", "multiprocessing"}),
    "pkgs.proxy.main": (
        ["--version"],
        SERVICE | {"aiohttp", "http.client", "segno", "zmq", "multiprocessing", "urllib.request"},
    ),
    "pkgs.agents.ssh.main": (["--version"], SERVICE | {"multiprocessing"}),
}
"""Program, an invocation that only starts, and the heavy modules it may have loaded then."""

LEAN_VERBS = ("ls", "ssh", "proxy.ssh", "join", "scp", "latency.ssh", "bench.ssh")
"""Verbs of tsh that people and OpenSSH run all day: what they need is loaded when it is needed."""

_REPORT = (
    "import sys\n{body}\nloaded = ','.join(m for m in {heavy!r} if sys.modules.get(m))\n"
    "print(loaded, len(sys.modules), sep=';', file=sys.stderr)"
)


def loaded_by(body: str) -> tuple[set[str], int]:
    """The heavy modules, and the number of all, that a fresh interpreter has after this code."""
    code = _REPORT.format(body=body, heavy=sorted(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    names, count = done.stderr.splitlines()[-1].split(";")
    return set(filter(None, names.split(","))), int(count)


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_starts_with_its_allowed_modules_only(module: str) -> None:
    argv, allowed = PROGRAMS[module]
    body = f"from {module} import main\ntry:\n    main({argv!r})\nexcept SystemExit:\n    pass"
    heavy, count = loaded_by(body)
    assert heavy <= allowed, f"{module} loads {sorted(heavy - allowed)}"
    if not allowed:
        assert count < 130, f"{count} modules for a version"


@pytest.mark.parametrize("verb", LEAN_VERBS)
def test_a_verb_of_every_day_is_lean(verb: str) -> None:
    heavy, _ = loaded_by(f"import pkgs.clients.tsh.verbs.{verb}")
    assert heavy <= {"socket", "ssl"}, f"tsh {verb} loads {sorted(heavy - {'socket', 'ssl'})}"


def test_the_process_of_a_connection_is_lean() -> None:
    """What the SSH Service's spawner loads, every host has in memory."""
    heavy, _ = loaded_by(
        "import pkgs.agents.ssh.session.child, pkgs.common.ssh.process.rehearsal\n"
        "assert 'pkgs.common.resources.kinds' not in sys.modules"
    )
    of_paramiko = {"bcrypt", "cryptography", "email", "logging", "nacl", "paramiko", "subprocess"}
    assert heavy <= of_paramiko | {"ctypes", "msgspec", "socket"}, sorted(heavy)


def test_policy_is_tested_without_anything_that_connects() -> None:
    heavy, _ = loaded_by("from pkgs.clients.tctl.main import main\nmain(['access', 'test', 'tests/policy'])")
    assert heavy <= {"msgspec", "re2", "yaml"}, sorted(heavy)
    heavy, _ = loaded_by(
        "import pkgs.clients.tctl.verbs.access.test\nassert 'pkgs.common.rpc' not in sys.modules"
    )


def test_completion_and_help_are_the_only_reason_for_typer() -> None:
    heavy, _ = loaded_by("from pkgs.clients.tsh.main import main\nmain(['--help'])")
    assert "typer" in heavy
    assert not heavy & {"cryptography", "paramiko", "zmq", "textual", "yaml"}
