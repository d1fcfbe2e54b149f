"""Start-up, counted in modules: what each verb people run all day may load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HEAVY = {
    "aiohttp",
    "argparse",
    "asyncio",
    "cryptography",
    "h11",
    "logging",
    "paramiko",
    "pathlib",
    "pydantic",
    "re2",
    "rich",
    "segno",
    "subprocess",
    "textual",
    "tinydb",
    "typer",
    "urllib",
    "uvloop",
    "yaml",
    "zmq",
}

PROBE = """
import json, sys
sys.path.insert(0, {root!r})
sys.argv = ["tsh"]
{body}
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def loaded(body: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE.format(root=str(ROOT), body=body)],
        capture_output=True,
        text=True,
        timeout=60,
        env={k: v for k, v in os.environ.items() if not k.startswith("TELEPORT_")},
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


def test_version_loads_nothing_but_the_table_of_verbs() -> None:
    got = loaded('from pkgs.clients.tsh.main import main; assert main(["version"]) == 0')
    assert not got & (HEAVY | {"msgspec", "ssl", "socket", "hashlib"})


IMPORTS = {
    "proxy ssh": "import pkgs.clients.tsh.main, pkgs.clients.tsh.verbs.proxy.ssh,"
    " pkgs.clients.tsh.connections.dial, pkgs.clients.tsh.connections.splice,"
    " pkgs.clients.tsh.connections.wire",
    "ssh": "import pkgs.clients.tsh.main, pkgs.clients.tsh.verbs.ssh",
    "scp": "import pkgs.clients.tsh.main, pkgs.clients.tsh.verbs.scp",
}


@pytest.mark.parametrize("verb", IMPORTS)
def test_what_runs_once_per_connection_is_lean(verb: str) -> None:
    # The typing library alone costs a third of the start of such a verb.
    assert not loaded(f"{IMPORTS[verb]}; assert 'typing' not in sys.modules") & (HEAVY | {"msgspec"})


def test_who_has_no_templates_loads_no_library_for_them(tmp_path: Path) -> None:
    body = (
        f"import os; nowhere = {str(tmp_path / 'none')!r}\n"
        "os.environ['TELEPORT_HOME'] = os.environ['TELEPORT_GLOBAL_TSH_CONFIG'] = nowhere\n"
        "from pkgs.common.output.argv import Parsed\nfrom pkgs.clients.tsh.templates import destination\n"
        "destination.find(Parsed({'jumphost': '', 'proxy': '', 'cluster': ''}), 'web', '22')"
    )
    assert not loaded(body) & (HEAVY | {"msgspec"})


def test_ssh_itself_needs_no_network_library() -> None:
    assert not loaded(IMPORTS["ssh"]) & {"ssl", "socket"}


def test_ls_reads_no_yaml_and_uses_no_crypto_library() -> None:
    body = (
        "import pkgs.clients.tsh.main, pkgs.clients.tsh.verbs.ls, pkgs.clients.tsh.connections.dial,"
        " pkgs.common.rpc.blocking, pkgs.common.api.resources, pkgs.common.output.table"
    )
    assert not loaded(body) & HEAVY


def test_what_ls_loads_before_its_first_byte_is_less_still() -> None:
    body = "import pkgs.clients.tsh.main, pkgs.clients.tsh.verbs.ls, pkgs.clients.tsh.connections.dial"
    assert not loaded(body) & (HEAVY | {"msgspec"})
