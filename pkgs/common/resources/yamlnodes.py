"""YAML and JSON text as a tree of YAML nodes with line marks, within limits. No values are made here.

Nodes shared by aliases stay shared; whoever walks the tree counts what it visits, so that a few anchors
cannot unfold into millions of values.
"""

from __future__ import annotations

import json
from typing import Any

import yaml
from yaml.events import (
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pkgs.common.errors import InputError
from pkgs.common.resources.limits import (
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_RESOURCE_BYTES,
    MAX_TEXT_BYTES,
)

_TAG = "tag:yaml.org,2002:"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def line_number(node: Node) -> int:
    """The node's line, from 1; 0 where it is not known (JSON)."""
    mark = node.start_mark
    return mark.line + 1 if mark is not None else 0


def compose_documents(text: str, source: str) -> list[Node]:
    """The documents of a YAML or JSON text; empty ones are left out. Raises InputError with the line."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise InputError(f"{source}: larger than {MAX_TEXT_BYTES:,} bytes")
    if text.lstrip()[:1] in {"{", "["}:
        found = _from_json(text, source)
        if found is not None:
            return [found]
    try:
        _check_shape(text, source)
        return [node for node in yaml.compose_all(text, Loader=_Loader) if not _is_empty(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark is not None else source
        column = f" at column {mark.column + 1}" if mark is not None else ""
        raise InputError(f"{where}: not valid YAML{column}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: not valid YAML", detail=type(error).__name__) from None


def _check_shape(text: str, source: str) -> None:
    """Depth and sizes, seen from the event stream before anything recursive runs: the C composer calls
    itself once a level and would run out of stack."""
    depth = documents = begin = 0
    is_list = False
    for event in yaml.parse(text, Loader=_Loader):
        start, end = event.start_mark, event.end_mark
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
            if depth == 1:
                is_list = isinstance(event, SequenceStartEvent)
                begin = start.index if start is not None else 0
            if depth > MAX_DEPTH:
                line = start.line + 1 if start is not None else 1
                raise InputError(f"{source}:{line}: nested deeper than {MAX_DEPTH}")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1
            size = end.index - begin if end is not None else 0
            if depth == 0 and not is_list and size > MAX_RESOURCE_BYTES:
                raise InputError(f"{source}: a document is larger than {MAX_RESOURCE_BYTES:,} bytes")
        elif isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > MAX_DOCUMENTS:
                raise InputError(f"{source}: more than {MAX_DOCUMENTS:,} documents")


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _TAG + "null"


def _from_json(text: str, source: str) -> Node | None:
    """A JSON text; None when it is something else that begins alike (YAML's own flow style)."""
    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{source}: nested deeper than {MAX_DEPTH}") from None
    except ValueError:
        return None
    return node_of(value, source)


class _Pairs(list[tuple[str, Any]]):
    """Members of an object in order, duplicates kept for the walker to refuse."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def node_of(value: Any, source: str = "<input>", depth: int = 0) -> Node:
    """The node of a plain value, without marks."""
    if depth > MAX_DEPTH:
        raise InputError(f"{source}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        value = _Pairs(value.items())
    if isinstance(value, _Pairs):
        pairs = [(_scalar("str", str(k)), node_of(v, source, depth + 1)) for k, v in value]
        return MappingNode(_TAG + "map", pairs)
    if isinstance(value, list | tuple):
        return SequenceNode(_TAG + "seq", [node_of(item, source, depth + 1) for item in value])
    if value is None:
        return _scalar("null", "")
    if isinstance(value, bool):
        return _scalar("bool", "true" if value else "false")
    if isinstance(value, int):
        return _scalar("int", str(value))
    if isinstance(value, float):
        return _scalar("float", repr(value))
    return _scalar("str", str(value), quoted=True)


def _scalar(kind: str, text: str, *, quoted: bool = False) -> ScalarNode:
    return ScalarNode(_TAG + kind, text, style='"' if quoted else None)
