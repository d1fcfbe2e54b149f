"""`--query`: which of the listed resources a person means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pkgs.common.access.contexts.fields import name_of, resource_variables
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.predicate.evaluate import compile_expression
from pkgs.common.access.predicate.faults import EvaluationError
from pkgs.common.access.predicate.functions import STRICT
from pkgs.common.access.predicate.vocabulary import Function, Param, Type, Vocabulary
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Node, Proxy, Resource

_ELSEWHERE = {"user": "a query knows the resource only, not the user"}


def compile_query(text: str, kind: str = "node") -> Callable[[Resource], bool]:
    """A test for resources of a kind; raises InputError that points at the character."""
    search = Function((Param.TEXT,), Type.BOOL, _search, rest=Param.TEXT, needs="resource")
    vocabulary = Vocabulary(
        resource_variables(frozenset({kind}), _itself),
        {**STRICT, "search": search},
        _ELSEWHERE,
        absent_alike=True,
    )
    try:
        run = compile_expression(text, vocabulary).bind()
    except InputError as error:
        raise InputError(f"--query: {error.message}") from None
    return partial(_test, run)


def _test(run: Callable[[Resource], bool], resource: Resource) -> bool:
    try:
        return run(resource)
    except EvaluationError as error:
        raise InputError(f"--query: {name_of(resource)[:80]}: {error}") from None


def _itself(resource: Resource) -> Resource:
    return resource


def _search(resource: Resource, *words: str) -> bool:
    """Every word is part of some common field, in any letter case."""
    texts = [text.lower() for text in _texts(resource)]
    return all(any(word.lower() in text for text in texts) for word in words)


def _texts(resource: Resource) -> Iterator[str]:
    yield resource.metadata.name
    yield name_of(resource)
    yield resource.metadata.description
    if isinstance(resource, Node | Proxy):
        yield resource.spec.addr
        yield from resource.spec.public_addrs
    for key, value in labels_of(resource).items():
        yield key
        yield value
