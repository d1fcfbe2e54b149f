"""`teleport-auth`: the Auth Service as a process."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.auth.service import start
from pkgs.common.runtime.process import service_main


def main(argv: Sequence[str] | None = None) -> int:
    return service_main("auth", argv, start)


if __name__ == "__main__":
    raise SystemExit(main())
