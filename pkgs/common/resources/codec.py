"""Resources from text and to text. What `to_yaml` writes, `load_documents` reads back unchanged.

Output order is kind, sub_kind, version, metadata, spec; empty fields are left out where leaving them out
means the same; secrets are left out unless asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pkgs.common.errors import InputError
from pkgs.common.resources import strict, versions, yamlnodes
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.limits import MAX_DOCUMENTS
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import canonical_kind, type_of
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import without_secrets

_TEXT = "tag:yaml.org,2002:str"
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_documents(text: str, source: str = "<input>") -> list[Resource]:
    """All resources of a YAML or JSON text, in order; a list counts as so many documents.

    Raises InputError at the first one that is wrong, naming line, document and path."""
    nodes = document_nodes(text, source)
    return [load_node(node, source, number, len(nodes)) for number, node in enumerate(nodes, 1)]


def document_nodes(text: str, source: str) -> list[Node]:
    """The documents of a text, not yet read."""
    found: list[Node] = []
    for document in yamlnodes.compose_documents(text, source):
        found += document.value if isinstance(document, SequenceNode) else [document]
        if len(found) > MAX_DOCUMENTS:
            raise InputError(f"{source}: more than {MAX_DOCUMENTS:,} documents")
    return found


def load_node(node: Node, source: str, number: int = 1, total: int = 1) -> Resource:
    """One of `total` documents of a text as a resource; an error says which one it is."""
    try:
        return _load(node, source)
    except InputError as error:
        if total == 1:
            raise
        # The line comes first, so that editors and terminals can jump to it.
        place, _, rest = error.message.partition(": ")
        raise InputError(
            f"{place}: document {number} of {total}: {rest}", hint=error.hint, detail=error.detail
        ) from None


def from_builtins(value: Any, source: str = "<input>") -> Resource:
    """One resource from plain values, as decoded from JSON."""
    return _load(yamlnodes.node_of(value, source), source)


def _load(node: Node, source: str) -> Resource:
    line = yamlnodes.line_number(node)
    where = f"{source}:{line}" if line else source
    if not isinstance(node, MappingNode):
        raise InputError(
            f"{where}: not a resource", hint="expected a mapping with kind, version, metadata, spec"
        )
    kinds = [value for key, value in node.value if key.value == "kind"]
    if not kinds or not isinstance(kinds[0], ScalarNode):
        raise InputError(
            f"{where}: kind: missing", hint="every resource names its kind, for example `kind: role`"
        )
    try:
        kind = canonical_kind(str(kinds[0].value))
    except InputError as error:
        raise InputError(f"{where}: kind: {error.message}", hint=error.hint) from None
    kinds[0].value = kind
    _name_numbers(node, kind)
    if kind == "role":
        _fill_role(node)
    return cast(Resource, strict.convert_node(node, type_of(kind), source))


def _name_numbers(node: MappingNode, kind: str) -> None:
    for path, names in versions.NUMBERS.get(kind, {}).items():
        found: Node | None = node
        for key in path:
            found = _child(found, key) if isinstance(found, MappingNode) else None
        if isinstance(found, ScalarNode) and str(found.value) in map(str, names):
            found.value, found.tag, found.style = names[int(found.value)], _TEXT, '"'


def _fill_role(node: MappingNode) -> None:
    """Write out what the role's version means by the fields that are absent."""
    version = _child(node, "version")
    allow = _child(_child(_child(node, "spec"), "allow"), None)
    if isinstance(allow, MappingNode):
        # A key without a value counts as absent elsewhere; here that would grant, so it counts as empty.
        given = {str(key.value): bool(value.value) for key, value in allow.value}
        number = str(version.value) if version is not None else Role(metadata=Metadata(name="")).version
        for name, value in versions.absent_in_allow(number, given).items():
            allow.value.append((ScalarNode(_TEXT, name), yamlnodes.node_of(value)))


def _child(node: Node | None, key: str | None) -> Node | None:
    if key is None or not isinstance(node, MappingNode):
        return node
    return next((value for name, value in node.value if name.value == key), None)


def to_builtins(resource: Resource, with_secrets: bool = False) -> dict[str, Any]:
    """A resource as plain dicts, lists and scalars, in the output's order."""
    shown = resource if with_secrets else without_secrets(resource)
    plain = _prune(shown)
    if isinstance(shown, Role):
        _say_nothing_allowed(shown, plain)
    ordered: dict[str, Any] = {"kind": shown.kind}
    for key in ("sub_kind", "version", "metadata", "spec", "status"):
        if key in plain:
            ordered[key] = plain[key]
    return ordered


def _say_nothing_allowed(role: Role, plain: dict[str, Any]) -> None:
    """Empty fields are left out, but not where leaving one out would grant something in this version."""
    allow = plain.get("spec", {}).get("allow")
    if allow is not None:
        for name, value in versions.absent_in_allow(
            role.version, {k: bool(v) for k, v in allow.items()}
        ).items():
            allow[name] = type(value)()


def to_yaml(resources: Resource | Sequence[Resource], with_secrets: bool = False) -> str:
    """YAML; several resources are documents of one stream."""
    items = [resources] if isinstance(resources, msgspec.Struct) else resources
    text: str = yaml.dump_all(
        [to_builtins(item, with_secrets) for item in items],
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        explicit_start=len(items) > 1,
        width=1000,
    )
    return text


def to_json(resources: Resource | Sequence[Resource], with_secrets: bool = False) -> str:
    """JSON; a sequence is an array, a single resource an object."""
    value: Any
    if isinstance(resources, msgspec.Struct):
        value = to_builtins(resources, with_secrets)
    else:
        value = [to_builtins(item, with_secrets) for item in resources]
    return msgspec.json.format(msgspec.json.encode(value), indent=4).decode()


@lru_cache(maxsize=1024)
def _fields(cls: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, name on output, and the empty default that may be left out (or a mark that fits nothing)."""
    rows = []
    for field in msgspec.structs.fields(cls):
        default: Any = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = cast(Any, field.default_factory)()
        droppable = default is None or default in ("", [], {}, (), b"")
        # A block that says nothing may be left out only where leaving it out says the same.
        fitting = droppable or isinstance(default, msgspec.Struct)
        empty = default if fitting else msgspec.NODEFAULT
        rows.append((field.name, field.encode_name, empty))
    return tuple(rows)


def _prune(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        plain: dict[str, Any] = {}
        for name, encoded, empty in _fields(type(value)):
            item = getattr(value, name)
            if item is empty or (item == empty and type(item) is type(empty)):
                if not isinstance(item, msgspec.Struct):
                    continue
                shown = _prune(item)
                if shown != {}:
                    plain[encoded] = shown
                continue
            plain[encoded] = item if type(item) in _PLAIN else _prune(item)
        return plain
    if isinstance(value, dict):
        return {key: item if type(item) is str else _prune(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) is str else _prune(item) for item in value]
    return msgspec.to_builtins(value)


_PLAIN = frozenset({str, int, bool, float, type(None)})
