"""`teleport version`."""

from __future__ import annotations

from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.runtime.version import VERSION

SPEC = Spec("Print the version.")


def run(args: Parsed) -> int:
    """Print it."""
    import platform

    print(f"Teleport v{VERSION} python{platform.python_version()}")
    return 0
