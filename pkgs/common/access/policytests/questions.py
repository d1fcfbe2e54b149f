"""The words of an action as what `decide` is asked, about the things of a world.

The words are those of `tctl access explain`. A word more is an entry of `WORDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pkgs.common.access.explaining.actions import KINDS, RULE_USAGE, USAGE, Action, parse_action
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.policytests import limits
from pkgs.common.access.policytests.document import SessionEntry
from pkgs.common.access.policytests.world import World
from pkgs.common.access.rules import VERBS
from pkgs.common.access.types import Target, UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import ALIASES, SINGLETONS
from pkgs.common.resources.strict import suggest

EVERY = "*"
"""As the name of a resource: every one of the kind."""
_ALSO = {"desktop": ("dynamic_windows_desktop",)}
"""Further kinds that a word is about."""


class Question(NamedTuple):
    text: str
    target: Target


class Asked(NamedTuple):
    """An action with what a test says beside it."""

    words: Sequence[str]
    labels: Mapping[str, str]
    session: SessionEntry | None


def questions(world: World, asked: Asked) -> list[Question]:
    """One, or where a `*` stands for the resource one for each. Raises InputError for what does not exist."""
    word = asked.words[0] if asked.words else ""
    make = WORDS.get(word)
    if make is None:
        known = sorted([*KINDS, *WORDS])
        usage = "; ".join((*USAGE.values(), RULE_USAGE))
        near = suggest(word, known)
        raise InputError(
            f"{word[:40]!r} is no action", hint=near if near.startswith("did") else f"write one of: {usage}"
        )
    return make(world, asked)


def _use(world: World, asked: Asked) -> list[Question]:
    action = parse_action(asked.words)
    if asked.session is not None:
        raise InputError("a session is for `resource session VERB`")
    every = {
        name: thing
        for kind in (action.kind, *_ALSO.get(action.word, ()))
        for name, thing in world.things.get(kind, {}).items()
    }
    if action.name == EVERY:
        found = [thing for thing in every.values() if _has(thing, asked.labels)]
        found.sort(key=lambda thing: (_called(thing), thing.name))
        if not found:
            raise InputError(f"no {action.kind} has these labels, so that nothing is tested")
        return [Question(f"{action.text} ({_called(thing)})", action.on(thing)) for thing in found]
    if asked.labels:
        raise InputError("labels are for a `*` in the place of the resource's name")
    return [Question(action.text, action.on(_one(world, action, every)))]


def _one(world: World, action: Action, every: Mapping[str, Resource]) -> Resource:
    found = every.get(action.name)
    if found is not None:
        return found
    nodes = world.servers.get(action.name, ()) if action.word == "ssh" else ()
    if len(nodes) == 1:
        return nodes[0]
    if nodes:
        ids = ", ".join(node.name for node in nodes[:5])
        raise InputError(
            f"{len(nodes)} servers are called {action.name[:80]!r}", hint=f"name one by its id: {ids}"
        )
    names = sorted(world.servers) if action.word == "ssh" else sorted(every)
    raise InputError(
        f"there is no {action.kind} {action.name[:80]!r}", hint=suggest(action.name, names[:1000])
    )


def _has(thing: Resource, wanted: Mapping[str, str]) -> bool:
    labels = labels_of(thing)
    return all(labels.get(key) == value for key, value in wanted.items())


def _called(thing: Resource) -> str:
    return getattr(getattr(thing, "spec", None), "hostname", "") or thing.name


def _rule(world: World, asked: Asked) -> list[Question]:
    words = asked.words
    if len(words) not in (3, 4):
        raise InputError("resource: this is not how it is written", hint=f"write {RULE_USAGE}")
    if asked.labels:
        raise InputError("labels are for a `*` in the place of the resource's name")
    kind = ALIASES.get(words[1].lower(), words[1].lower())
    if kind not in world.rule_kinds:
        near = suggest(kind, sorted(world.rule_kinds))
        raise InputError(f"no rule is about a kind {words[1][:80]!r}", hint=near)
    if words[2] not in VERBS or words[2] == EVERY:
        raise InputError(f"{words[2][:80]!r} is no verb", hint=suggest(words[2], VERBS[:-1]))
    resource = None
    if len(words) == 4:
        name = SINGLETONS.get(kind, words[3])
        resource = world.things.get(kind, {}).get(name)
        if resource is None and kind == "node":
            resource = next(iter(world.servers.get(name, ())), None)
        if resource is None:
            hint = suggest(name, sorted(world.things.get(kind, {}))[:1000])
            raise InputError(f"there is no {kind} {name[:80]!r}", hint=hint)
    session = asked.session or SessionEntry()
    target = UseRule(
        kind,
        words[2],
        resource=resource,
        owner=session.owner,
        participants=tuple(session.participants),
        login=session.login,
        server_hostname=session.server,
    )
    return [Question(" ".join(words), target)]


WORDS: dict[str, Callable[[World, Asked], list[Question]]] = {**dict.fromkeys(KINDS, _use), "resource": _rule}
"""First word of an action to what it asks."""


def words_of(text: str) -> list[str]:
    """An action as one string."""
    if len(text) > limits.MAX_TEXT:
        raise InputError(f"an action has at most {limits.MAX_TEXT} characters")
    return text.split()
