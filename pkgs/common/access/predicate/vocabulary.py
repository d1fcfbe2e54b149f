"""What an expression may speak of: typed names and functions, one vocabulary per context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Type(Enum):
    BOOL = "true or false"
    TEXT = "a string"
    LIST = "a list"
    TEXTS = "a map of strings"
    LISTS = "a map of lists"


EMPTY: dict[Type, Any] = {Type.BOOL: False, Type.TEXT: "", Type.LIST: ()}
"""What a missing key or an absent field gives."""


class Param(Enum):
    """What a parameter of a function takes."""

    TEXT = "a string"
    LIST = "a list"
    LISTABLE = "a list or a string"
    """A string counts as a list of one; the empty string, which a missing key gives, as none."""
    VALUE = "a list or a string, as it is"
    PATTERN = "a pattern written out as a string"
    """Plain text, glob or ^regular expression$; compiled once, never from data."""
    LITERAL = "a string written out"


@dataclass(frozen=True, slots=True)
class Function:
    """`run` gets the scope, then the arguments."""

    params: tuple[Param, ...]
    result: Type | None
    """None: the type of the first argument."""
    run: Callable[..., Any]
    rest: Param | None = None
    """Further arguments, as many as wanted."""
    needs: str = ""
    """Name of the variable whose scope it reads; empty: the result follows from the arguments alone."""


@dataclass(frozen=True, slots=True)
class Variable:
    type: Type
    read: Callable[[Any], Any]
    """From the scope; None where it does not exist."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    variables: Mapping[str, Variable]
    functions: Mapping[str, Function]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """First names that exist in other contexts, and what to say to whoever uses them here."""
    absent_alike: bool = False
    """Whether two strings that do not exist are equal: for a listing they are; nothing is granted for it."""
