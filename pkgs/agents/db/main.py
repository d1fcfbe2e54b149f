"""`teleport-db`: the Database Service as a program."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.common.runtime.process import service_main


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the program."""
    from pkgs.agents.db.service import start

    return service_main("db", argv, start)


if __name__ == "__main__":
    raise SystemExit(main())
