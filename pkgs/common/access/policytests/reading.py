"""The text of a file of policy tests, read strictly: typed values, documents with their places, paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pkgs.common.access.policytests import limits
from pkgs.common.access.policytests.document import PolicyFile
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_node
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.resources.strict import convert_node
from pkgs.common.resources.yamlnodes import compose_documents, line_number, node_of

_MAP = "tag:yaml.org,2002:map"


class Place(NamedTuple):
    """Where something stands."""

    source: str
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        return f"{where}: {self.path}" if self.path else where

    def refuse(self, message: str, hint: str = "") -> InputError:
        return InputError(f"{self}: {message}", hint=hint)


class Placed(NamedTuple):
    """A document and where it is from."""

    resource: Resource
    place: Place


class Wanted(NamedTuple):
    """A path that a file names: a file, a folder or a pattern, seen from the file's folder."""

    text: str
    place: Place
    roles_only: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file that was read, without what it names."""

    source: str
    file: PolicyFile
    documents: tuple[Placed, ...]
    """Those that stand in the file itself."""
    wanted: tuple[Wanted, ...]
    places: tuple[Place, ...]
    """Of each test."""


def parse(text: str, source: str) -> Parsed:
    """Raises InputError with line and path for whatever is not understood."""
    nodes = compose_documents(text, source)
    if not nodes:
        raise InputError(f"{source}: the file is empty", hint="a file of policy tests has a list of `tests`")
    if len(nodes) > 1:
        raise Place(source, line_number(nodes[1])).refuse("found a second document, expected one")
    file = convert_node(nodes[0], PolicyFile, source)
    root = {str(key.value): value for key, value in nodes[0].value}
    places = tuple(
        Place(source, line_number(item), f"tests[{number}]")
        for number, item in enumerate(_items(root.get("tests")))
    )
    if not places:
        raise Place(source, line_number(nodes[0]), "tests").refuse("a file without tests tests nothing")
    wanted: list[Wanted] = []
    documents: list[Placed] = []
    for number, item in enumerate(_items(root.get("roles"))):
        place = Place(source, line_number(item), f"roles[{number}]")
        if isinstance(item, ScalarNode):
            wanted.append(Wanted(str(item.value), place, roles_only=True))
        else:
            documents.append(Placed(_document(item, "role", "", place), place))
    for number, item in enumerate(_items(root.get("files"))):
        place = Place(source, line_number(item), f"files[{number}]")
        wanted.append(Wanted(str(item.value), place, roles_only=False))
    for number, item in enumerate(_items(root.get("locks"))):
        place = Place(source, line_number(item), f"locks[{number}]")
        documents.append(Placed(_document(item, "lock", f"lock-{number + 1}", place), place))
    preference = root.get("auth_preference")
    if file.auth_preference is not None and preference is not None:
        place = Place(source, line_number(preference), "auth_preference")
        kind = "cluster_auth_preference"
        documents.append(Placed(_document(preference, kind, SINGLETONS[kind], place), place))
    if len(wanted) > limits.MAX_PATHS:
        raise InputError(f"{source}: names more than {limits.MAX_PATHS} paths")
    return Parsed(source, file, tuple(documents), tuple(wanted), places)


def _items(node: Node | None) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value


def _document(node: Node, kind: str, name: str, place: Place) -> Resource:
    """A whole document, or with a name for it just the `spec` of one."""
    if not isinstance(node, MappingNode):
        wanted = "a mapping" if name else "a path or a document"
        raise place.refuse(f"expected {wanted}")
    if name and all(key.value != "kind" for key, _ in node.value):
        pairs = [("kind", node_of(kind)), ("metadata", node_of({"name": name})), ("spec", node)]
        node = MappingNode(_MAP, [(node_of(key), value) for key, value in pairs], start_mark=node.start_mark)
    found = load_node(node, place.source)
    if found.kind != kind:
        raise place.refuse(f"found a {found.kind}, expected a {kind}", "other documents go into `files`")
    return found
