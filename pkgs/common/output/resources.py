"""Resources as command lines print them: kind, version, metadata, spec, in this order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from pkgs.common.output import jsonout, yamlout
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.kinds import Resource


def write_list(resources: Sequence[Resource], format: str, *, with_secrets: bool = False) -> None:
    """A JSON array (also when empty), or YAML documents separated by `---`."""
    sys.stdout.writelines(parts(resources, format, with_secrets=with_secrets))


def parts(resources: Sequence[Resource], format: str, *, with_secrets: bool = False) -> Iterator[str]:
    """The same as pieces of text."""
    documents = (to_builtins(resource, with_secrets=with_secrets) for resource in resources)
    if format == "yaml":
        yield from yamlout.dumps_all(documents)
    else:
        yield jsonout.dumps(list(documents))
