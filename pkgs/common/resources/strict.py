"""Strict loading of YAML and JSON into typed values, for resources and for configuration files.

An error names the source, the line, the dotted path, what was found and what is allowed. The wanted type
decides what a scalar means: `off` is text where text is wanted and false where a boolean is; `yes`, `no`,
`on` and `off` are booleans, quoted or not. A key without a value counts as absent.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as mi
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pkgs.common.errors import InputError
from pkgs.common.resources.limits import MAX_DEPTH, MAX_NODES
from pkgs.common.resources.yamlnodes import compose_documents, line_number

T = TypeVar("T")

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_INT = re.compile(r"[-+]?[0-9][0-9_]{0,30}", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_NULL_TAG = "tag:yaml.org,2002:null"
_ZERO_TIME = "0001-01-01T00:00:00"
"""How the field writes that there is no time: as an expiry it means never."""
_A_TIME = "2026-01-31T12:00:00Z"
_SHOWN_LENGTH = 40
_ABSENT = object()
_TEXTUAL = mi.StrType | mi.DateTimeType | mi.BytesType | mi.AnyType


def load_yaml_strict(text: str, type: type[T], source: str = "<input>") -> T:
    """One document as a value of `type`; an empty text is an empty mapping. Raises InputError."""
    documents = compose_documents(text, source)
    if len(documents) > 1:
        line = line_number(documents[1])
        raise InputError(f"{source}:{line}: found a second document, expected one")
    node: Node = documents[0] if documents else MappingNode("tag:yaml.org,2002:map", [])
    return convert_node(node, type, source)


def convert_node(node: Node, type: type[T], source: str) -> T:
    """A composed document as a value of `type`."""
    plain = Walker(source).value(node, _type_info(type), "", 0)
    try:
        return msgspec.convert(plain, type)
    except msgspec.ValidationError as error:
        text = str(error)
        what, _, at = text.partition(" - at `$")
        path = at.rstrip("`").removeprefix(".")
        said = f"not a time, expected one like {_A_TIME}" if "datetime" in what else what.lower()
        raise _error(source, find_node(node, path), path, said) from None


@lru_cache(maxsize=1024)
def _cached_type_info(type: Any) -> mi.Type:
    return mi.type_info(type)


def _type_info(type: Any) -> mi.Type:
    return _cached_type_info(type)


def line_of(text: str, path: str, source: str = "<input>") -> int:
    """The line of a dotted path with `[i]` indexes, or of its nearest existing parent; 0 for no document."""
    documents = compose_documents(text, source)
    return line_number(find_node(documents[0], path)) if documents else 0


def find_node(node: Node, path: str) -> Node:
    """The node at a dotted path, or its nearest existing parent."""
    rest = path
    while rest:
        if isinstance(node, SequenceNode):
            index = re.match(r"\[([0-9]{1,9})\]\.?", rest)
            if index is None or int(index[1]) >= len(node.value):
                return node
            node, rest = node.value[int(index[1])], rest[index.end() :]
            continue
        if not isinstance(node, MappingNode):
            return node
        pairs: list[tuple[Node, Node]] = node.value
        for key, value in pairs:
            name = str(key.value)
            if rest == name:
                return key  # the line the reader looks for is the key's
            if rest.startswith((f"{name}.", f"{name}[")):
                node, rest = value, rest[len(name) :].removeprefix(".")
                break
        else:
            return node
    return node


def _error(source: str, node: Node | None, path: str, what: str, hint: str = "") -> InputError:
    line = line_number(node) if node is not None else 0
    where = f"{source}:{line}" if line else source
    return InputError(f"{where}: {path}: {what}" if path else f"{where}: {what}", hint=hint)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "...")


def _describe(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    return "nothing" if _is_null(node) else _shown(str(node.value))


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL_TAG


def suggest(name: str, known: Sequence[str]) -> str:
    """A hint for a name that is not among the known ones."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(known)}" if known else "nothing is allowed here"


class Walker:
    """Turns nodes into plain values fit for `msgspec.convert`, guided by the wanted type."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._visited = 0

    def _refuse(self, node: Node, path: str, wanted: str) -> InputError:
        return _error(self._source, node, path, f"found {_describe(node)}, expected {wanted}")

    def value(self, node: Node, info: mi.Type, path: str, depth: int) -> Any:
        self._visited += 1
        if self._visited > MAX_NODES:
            raise _error(self._source, node, path, f"more than {MAX_NODES} values in one document")
        if depth > MAX_DEPTH:
            raise _error(self._source, node, path, f"nested deeper than {MAX_DEPTH}")
        options = list(info.types) if isinstance(info, mi.UnionType) else [info]
        if _is_null(node) and any(isinstance(option, mi.NoneType | mi.AnyType) for option in options):
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, options, path, depth)
        if isinstance(node, SequenceNode):
            return self._sequence(node, options, path, depth)
        return self._scalar(node, options, path)

    def _mapping(self, node: MappingNode, options: Sequence[mi.Type], path: str, depth: int) -> Any:
        for option in options:
            if isinstance(option, mi.StructType):
                return self._struct(node, option, path, depth)
            if isinstance(option, mi.DictType | mi.AnyType):
                inner = option.value_type if isinstance(option, mi.DictType) else mi.AnyType()
                # The field writes an empty list of a trait as `null`.
                lists = isinstance(inner, mi.ListType)
                return {
                    key: []
                    if lists and _is_null(value)
                    else self.value(value, inner, f"{path}.{key}" if path else key, depth + 1)
                    for key, _, value in self._items(node, path)
                }
        raise self._refuse(node, path, _wanted(options))

    def _items(self, node: MappingNode, path: str) -> Iterable[tuple[str, Node, Node]]:
        seen: set[str] = set()
        for key_node, value in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _error(self._source, key_node, path, f"found {_describe(key_node)}, expected a key")
            key = str(key_node.value)
            if key in seen:
                raise _error(self._source, key_node, f"{path}.{key}" if path else key, "key given twice")
            seen.add(key)
            yield key, key_node, value

    def _struct(self, node: MappingNode, info: mi.StructType, path: str, depth: int) -> dict[str, Any]:
        fields = {field.encode_name: field for field in info.fields}
        found: dict[str, Any] = {}
        for key, key_node, value in self._items(node, path):
            where = f"{path}.{key}" if path else key
            field = fields.get(key)
            if field is not None:
                if _is_null(value) and not field.required:
                    continue
                found[key] = self.value(value, field.type, where, depth + 1)
            elif key == info.tag_field:
                if str(value.value) != info.tag:
                    raise self._refuse(value, where, str(info.tag))
                found[key] = info.tag
            elif info.forbid_unknown_fields:
                known = [*([info.tag_field] if info.tag_field else []), *fields]
                raise _error(self._source, key_node, where, f"unknown key {_shown(key)}", suggest(key, known))
        missing = [name for name, field in fields.items() if field.required and name not in found]
        if missing:
            where = f"{path}.{missing[0]}" if path else missing[0]
            wanted = fields[missing[0]].type
            options = wanted.types if isinstance(wanted, mi.UnionType) else [wanted]
            raise _error(self._source, node, where, f"missing, expected {_wanted(options)}")
        return found

    def _sequence(self, node: SequenceNode, options: Sequence[mi.Type], path: str, depth: int) -> Any:
        for option in options:
            if isinstance(option, mi.ListType | mi.VarTupleType | mi.AnyType):
                inner = mi.AnyType() if isinstance(option, mi.AnyType) else option.item_type
                return [
                    self.value(item, inner, f"{path}[{index}]", depth + 1)
                    for index, item in enumerate(node.value)
                ]
        raise self._refuse(node, path, _wanted(options))

    def _scalar(self, node: Node, options: Sequence[mi.Type], path: str) -> Any:
        text = str(node.value)
        plain = not getattr(node, "style", None)
        if _is_null(node):
            raise self._refuse(node, path, _wanted(options))
        if text.startswith(_ZERO_TIME) and _may_be_no_time(options):
            return None
        textual = any(isinstance(o, _TEXTUAL) for o in options)
        for option in options:
            parsed = _parse_exact(option, text, plain or not textual)
            if parsed is not _ABSENT:
                return parsed
        if textual:
            return text
        allowed = [str(v) for o in options if isinstance(o, mi.LiteralType) for v in o.values]
        if allowed and len(options) == 1:
            hint = suggest(text, allowed)
            wanted = f"one of {', '.join(value or repr('') for value in allowed)}"
            error = self._refuse(node, path, wanted)
            error.hint = hint if hint.startswith("did") else ""
            raise error
        raise self._refuse(node, path, _wanted(options))


def _may_be_no_time(options: Sequence[mi.Type]) -> bool:
    wanted = {type(option) for option in options}
    return mi.DateTimeType in wanted and mi.NoneType in wanted


def _parse_exact(option: mi.Type, text: str, free: bool) -> Any:
    """The value of a scalar for a type that takes only some texts; the absent mark when it is not one.

    `free`: not quoted, or text is not wanted here; otherwise a quoted scalar stays text."""
    if isinstance(option, mi.LiteralType):
        return next((value for value in option.values if str(value) == text), _ABSENT)
    if not free:
        return _ABSENT
    if isinstance(option, mi.BoolType):
        lowered = text.lower()
        return lowered in _TRUE if lowered in _TRUE or lowered in _FALSE else _ABSENT
    if isinstance(option, mi.IntType) and _INT.fullmatch(text):
        return int(text)
    if isinstance(option, mi.FloatType) and _FLOAT.fullmatch(text):
        return float(text)
    if isinstance(option, mi.AnyType):
        return _parse_untyped(text)
    return _ABSENT


def _parse_untyped(text: str) -> Any:
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _wanted(options: Sequence[mi.Type]) -> str:
    """What a reader should write instead."""
    names: list[str] = []
    for option in options:
        if isinstance(option, mi.LiteralType):
            names.append("one of " + ", ".join(str(value) or "''" for value in option.values))
        elif isinstance(option, mi.BoolType):
            names.append("yes or no")
        elif isinstance(option, mi.IntType):
            names.append("a whole number")
        elif isinstance(option, mi.FloatType):
            names.append("a number")
        elif isinstance(option, mi.DateTimeType):
            names.append(f"a time like {_A_TIME}")
        elif isinstance(option, mi.StrType | mi.BytesType):
            names.append("text")
        elif isinstance(option, mi.ListType | mi.VarTupleType):
            names.append("a list")
        elif isinstance(option, mi.DictType | mi.StructType):
            names.append("a mapping")
    return " or ".join(dict.fromkeys(names)) or "a value"
