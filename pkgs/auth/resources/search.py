"""Filtering a listing: by labels and by words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pkgs.common.errors import LimitExceededError
from pkgs.common.resources.kinds import AuthServer, Node, Proxy, Resource

_MAX_TERMS = 50


def matcher(labels: dict[str, str], words: list[str]) -> Callable[[Resource], bool] | None:
    """A test for resources that have all the labels and all the words; None when nothing is asked for.

    A node's labels are its own and the results of its command labels; words are sought in name, hostname,
    address and labels, in any case."""
    if len(labels) > _MAX_TERMS or len(words) > _MAX_TERMS:
        raise LimitExceededError(f"a listing may be filtered by {_MAX_TERMS} labels and words")
    if not labels and not words:
        return None
    lowered = [word.lower() for word in words]

    def matches(resource: Resource) -> bool:
        have = _labels(resource)
        if any(
            have.get(key) != value and not (value == "*" and key in have) for key, value in labels.items()
        ):
            return False
        if not lowered:
            return True
        texts = [text.lower() for text in _texts(resource, have)]
        return all(any(word in text for text in texts) for word in lowered)

    return matches


def _labels(resource: Resource) -> dict[str, str]:
    if isinstance(resource, Node | Proxy | AuthServer) and resource.spec.cmd_labels:
        return resource.metadata.labels | {k: v.result for k, v in resource.spec.cmd_labels.items()}
    return resource.metadata.labels


def _texts(resource: Resource, labels: dict[str, str]) -> Iterator[str]:
    yield resource.name
    yield resource.metadata.description
    if isinstance(resource, Node | Proxy | AuthServer):
        yield resource.spec.hostname
        yield resource.spec.addr
        yield from resource.spec.public_addrs
    for key, value in labels.items():
        yield key
        yield value
