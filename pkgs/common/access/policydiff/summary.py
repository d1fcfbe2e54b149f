"""Differences that are alike, told together: so many servers with the same answer are one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pkgs.common.access.policydiff import limits
from pkgs.common.access.policydiff.compare import RULES, Difference
from pkgs.common.access.policydiff.items import Item
from pkgs.common.access.policydiff.states import State
from pkgs.common.errors import InputError

_KINDS_SHOWN = 12
_NEEDS = {"mfa": "with MFA", "device": "from a trusted device", "some": "some objects"}


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for one user, about one or many resources."""

    user: str
    sign: str
    """`+` gained, `-` lost, `~` allowed still but otherwise."""
    action: str
    """About the first of the names, and how many more; kinds of rules are written out."""
    names: tuple[str, ...]
    """As many as are kept."""
    count: int
    before: State
    after: State

    def __str__(self) -> str:
        return f"{self.sign} {self.user} {self.action} ({self.why})"

    @property
    def why(self) -> str:
        """By what it is gained, by what it was allowed and why it is not any more, or how it differs."""
        if self.sign == "+":
            return _told(self.after)
        if self.sign == "-":
            return f"was {_told(self.before)}; now {_told(self.after)}"
        return f"was {_told(self.before, whole=True)}; now {_told(self.after, whole=True)}"


def summarised(differences: Iterable[Difference]) -> list[Change]:
    """By user: what is gained, lost, otherwise. Raises InputError when there are too many."""
    groups: dict[tuple[object, ...], tuple[Difference, list[str], int]] = {}
    for difference in differences:
        item = difference.item
        key = (
            difference.user,
            item.word,
            item.begin,
            item.end,
            _key(difference.before),
            _key(difference.after),
        )
        first, names, count = groups.get(key, (difference, [], 0))
        names += item.names[: max(0, limits.MAX_NAMES - len(names))]
        groups[key] = (first, names, count + len(item.names))
        if len(groups) > limits.MAX_DIFFERENCES:
            raise InputError(
                f"more than {limits.MAX_DIFFERENCES} differences", hint="narrow it down with --user or --kind"
            )
    changes = [
        Change(
            first.user,
            first.sign,
            _action(first.item, names, count),
            tuple(names),
            count,
            first.before,
            first.after,
        )
        for first, names, count in groups.values()
    ]
    return sorted(changes, key=lambda change: (change.user, "+-~".index(change.sign)))


def _action(item: Item, names: list[str], count: int) -> str:
    if item.word == RULES:
        more = f",... ({count})" if count > _KINDS_SHOWN else ""
        return item.text(",".join(names[:_KINDS_SHOWN]) + more)
    return item.text(names[0]) + (f" and {count - 1} more" if count > 1 else "")


def _key(state: State) -> tuple[object, ...]:
    principals = tuple(sorted((state.principals or {}).items()))
    return state.allowed, state.reasons, state.needs, principals


def _told(state: State, *, whole: bool = False) -> str:
    return ", ".join(_parts(state, whole=whole))


def _parts(state: State, *, whole: bool) -> Iterator[str]:
    yield "; ".join(state.reasons)
    yield from (_NEEDS[need] for need in state.needs)
    if whole or "some" in state.needs:
        for name, values in sorted((state.principals or {}).items()):
            yield f"{name}: {', '.join(values) or 'none'}" if name != "where" else "; ".join(values)
