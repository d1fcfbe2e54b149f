"""Which databases this agent serves: those of its file, and those of the cluster that its matchers select."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from pkgs.agents.base.labels import CommandLabels, LabelCommand
from pkgs.common.access.matching.labels import LabelSelector, compile_selector, labels_of
from pkgs.common.errors import InputError
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Database
from pkgs.common.runtime.config.db import DatabaseEntry, DbService


class Registry:
    """The databases by name. One of the file comes before one of the cluster."""

    def __init__(
        self,
        section: DbService,
        protocols: Collection[str],
        cache: ClusterCache,
        on_change: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        """Raises InputError for a matcher that makes no sense, or authorities that do not read."""
        self._cache = cache
        self._protocols = protocols
        self._on_change = on_change
        self._log = log
        self._static = {entry.name: entry.resource() for entry in section.databases}
        self._labels = {
            entry.name: CommandLabels(
                _commands(entry), entry.static_labels, self._labels_changed, log.getChild("labels")
            )
            for entry in section.databases
            if entry.dynamic_labels
        }
        self._selectors: Sequence[LabelSelector] = [
            compile_selector(matcher.labels, {}) for matcher in section.resources
        ]
        self._refused: set[str] = set()
        self._all: Mapping[str, Database] = {}

    async def start(self) -> None:
        for labels in self._labels.values():
            await labels.start()
        self._find()

    async def close(self) -> None:
        for labels in self._labels.values():
            await labels.close()

    @property
    def all(self) -> Mapping[str, Database]:
        """The same object until something changes."""
        return self._all

    def get(self, name: str) -> Database | None:
        return self._all.get(name)

    def changed(self, kind: str) -> None:
        """Something of this kind has changed in the cluster; empty: anything may have."""
        if kind in ("", "db"):
            self._find()

    def _labels_changed(self) -> None:
        self._find()

    def _find(self) -> None:
        found: dict[str, Database] = {}
        for resource in self._cache.resources("db"):
            if isinstance(resource, Database) and self._is_selected(resource):
                # Labels by commands run where the file is: who may write resources runs nothing here.
                found[resource.name] = msgspec.structs.replace(
                    resource, spec=msgspec.structs.replace(resource.spec, dynamic_labels={})
                )
        for name, database in self._static.items():
            labels = self._labels.get(name)
            dynamic = labels.current() if labels is not None else {}
            found[name] = msgspec.structs.replace(
                database, spec=msgspec.structs.replace(database.spec, dynamic_labels=dynamic)
            )
        found = {name: database for name, database in found.items() if self._is_spoken(database)}
        if found != self._all:
            self._all = found
            self._on_change()

    def _is_selected(self, database: Database) -> bool:
        labels = labels_of(database)
        return any(selector.matches(labels) for selector in self._selectors)

    def _is_spoken(self, database: Database) -> bool:
        if database.spec.protocol in self._protocols:
            return True
        if database.name not in self._refused:
            self._refused.add(database.name)
            self._log.warning(
                "a database is not served: its protocol is not one of this version",
                extra={"database": database.name, "protocol": database.spec.protocol},
            )
        return False


def _commands(entry: DatabaseEntry) -> list[LabelCommand]:
    return [
        LabelCommand(label.name, tuple(label.command), label.period, parse_duration(label.period))
        for label in entry.dynamic_labels
    ]


DEFAULT_PORTS = {
    "postgres": 5432,
    "cockroachdb": 26257,
    "mysql": 3306,
    "redis": 6379,
    "clickhouse-http": 8443,
}


def address_of(database: Database) -> tuple[str, int]:
    """Host and port of `uri`, which may be `host:port` or a URL. Raises InputError."""
    rest = database.spec.uri.partition("://")[2] or database.spec.uri
    rest = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, str(DEFAULT_PORTS.get(database.spec.protocol, 0))
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"database {database.name}: {database.spec.uri!r} has no host and port")
    return host, int(port)
