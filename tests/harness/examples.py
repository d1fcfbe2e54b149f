"""How many examples a law is tried on: all of them in `make test`, a few in the loop of `make check`."""

from __future__ import annotations

import os

_QUICK = os.environ.get("QUICK", "") == "1"


def examples(whole: int) -> int:
    return min(whole, max(15, whole // 6)) if _QUICK else whole
