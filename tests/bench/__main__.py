"""`make bench`: run the benchmarks, print the table, write JSON. `--quick` takes a minute or two."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bench.report import Row, publish

AREAS = (
    "access",
    "reviews",
    "rpc",
    "net",
    "auth",
    "clients",
    "recordings",
    "recorded",
    "ssh",
    "sftp",
    "ansible",
    "mysql",
    "redis",
    "postgres",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*", default=list(AREAS), help=f"of {', '.join(AREAS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not a measurement")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    args = parser.parse_args()
    rows: list[Row] = []
    for area in args.areas:
        if area not in AREAS:
            parser.error(f"no area {area!r}; there are {', '.join(AREAS)}")
        module: Any = import_module(f"tests.bench.bench_{area}")
        run: Callable[..., list[Row]] = module.run
        print(f"== {area}", file=sys.stderr, flush=True)
        rows.extend(run(full=not args.quick))
    publish(rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
