"""The protocols that this Database Service speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pkgs.agents.db.clickhouse.engine import ClickhouseEngine
from pkgs.agents.db.engine import Engine
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.agents.db.postgres.engine import PostgresEngine
from pkgs.agents.db.redis.engine import RedisEngine
from pkgs.agents.db.users import mysql, postgres
from pkgs.agents.db.users.accounts import Administer

ADMINISTRATORS: Mapping[str, Administer] = {"postgres": postgres.administer, "mysql": mysql.administer}
"""By `spec.protocol`: those in which users can be made on demand."""


def built_in() -> tuple[Engine, ...]:
    """Every engine of this room."""
    return (PostgresEngine(), MysqlEngine(), RedisEngine(), ClickhouseEngine())


def by_protocol(engines: Iterable[Engine]) -> Mapping[str, Engine]:
    """Name of `spec.protocol` to the engine that serves it."""
    return {protocol: engine for engine in engines for protocol in engine.protocols}
