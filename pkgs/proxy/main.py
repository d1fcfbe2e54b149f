"""`teleport-proxy`: the Proxy Service as a program."""

from __future__ import annotations

from collections.abc import Sequence

from pkgs.common.runtime.process import service_main
from pkgs.proxy.service import start_proxy


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; the exit code."""
    return service_main("proxy", argv, start_proxy)


if __name__ == "__main__":
    raise SystemExit(main())
