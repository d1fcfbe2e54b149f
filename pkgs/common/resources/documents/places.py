"""Resources with the place each has in a text, so that whatever is wrong with one is said with its line, also
when that is found later than by the reader: by the checks of fields, or by the Auth Service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from yaml.nodes import Node

from pkgs.common.errors import AccessError
from pkgs.common.resources.codec import document_nodes, load_node
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.strict import find_node
from pkgs.common.resources.yamlnodes import line_number

_PATH = re.compile(r"(?<![\w/.])(kind|version|sub_kind|metadata|spec|status)(?:[.\[][^ ]*)?(?=: )")


@dataclass(frozen=True, slots=True)
class Placed:
    """A resource and where it was read."""

    resource: Resource
    source: str
    """The file."""
    number: int
    total: int
    node: Node

    @property
    def where(self) -> str:
        """`file:line` of the document, or `file: document 2` where lines are not known."""
        return self._at(line_number(self.node))

    def _at(self, line: int) -> str:
        if line:
            return f"{self.source}:{line}"
        return f"{self.source}: document {self.number}" if self.total > 1 else self.source

    def explained(self, error: AccessError) -> AccessError:
        """The same error, said with the file and the line of the field that its message names."""
        line = line_number(self.node)
        found = _PATH.search(error.message)
        if found is not None:
            line = line_number(find_node(self.node, found[0])) or line
        made = type(error)(f"{self._at(line)}: {error.message}", hint=error.hint, detail=error.detail)
        made.__cause__ = error
        return made


def load_placed(text: str, source: str) -> list[Placed]:
    """All resources of a text; raises InputError at the first one that is wrong."""
    return list(_placed(text, source))


def _placed(text: str, source: str) -> Iterator[Placed]:
    nodes = document_nodes(text, source)
    for number, node in enumerate(nodes, 1):
        yield Placed(load_node(node, source, number, len(nodes)), source, number, len(nodes), node)
