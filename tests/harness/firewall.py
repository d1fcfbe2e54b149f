"""Packets of this machine's loopback that are dropped for a while, and nobody is told. Needs root and nft."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

TABLE = f"faults{os.getpid()}"


@contextlib.contextmanager
def dropped(*rules: str) -> Iterator[None]:
    """What of TCP comes in and matches one of the rules, such as `dport 5432`."""
    lines = "".join(f"    tcp {rule} drop\n" for rule in rules)
    table = f"table inet {TABLE} {{\n  chain in {{\n    type filter hook input priority 0;\n{lines}  }}\n}}\n"
    subprocess.run(("nft", "-f", "-"), input=table.encode(), check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run(("nft", "delete", "table", "inet", TABLE), check=True, timeout=20)
