"""`--format=json|yaml` for values of builtins and message structs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from pkgs.common.output import jsonout, yamlout


def write(value: Any, format: str) -> None:
    """Print one value."""
    if format == "yaml":
        sys.stdout.write(yamlout.dumps(msgspec.to_builtins(value)))
    else:
        sys.stdout.write(jsonout.dumps(value))


def write_list(values: Sequence[Any], format: str) -> None:
    """Print a list: a JSON array (also when empty), or YAML documents separated by `---`."""
    if format == "yaml":
        sys.stdout.writelines(yamlout.dumps_all(msgspec.to_builtins(value) for value in values))
    else:
        sys.stdout.write(jsonout.dumps(list(values)))
