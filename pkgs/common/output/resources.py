"""Resources as command lines print them: kind, version, metadata, spec, in this order."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pkgs.common.output import jsonout, yamlout
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.kinds import Resource


def write_list(resources: Sequence[Resource], format: str, *, with_secrets: bool = False) -> None:
    """A JSON array (also when empty), or YAML documents separated by `---`."""
    documents = (to_builtins(resource, with_secrets=with_secrets) for resource in resources)
    if format == "yaml":
        sys.stdout.writelines(yamlout.dumps_all(documents))
    else:
        sys.stdout.write(jsonout.dumps(list(documents)))
