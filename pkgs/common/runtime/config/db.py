"""The `db_service` section."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Database, DatabaseMatcher, DatabaseSpec
from pkgs.common.resources.kinds.infrastructure import DbAdmin, DbMysql, DbTls
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Labels
from pkgs.common.resources.validate.targets import check_database
from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.ssh import CommandLabel
from pkgs.common.runtime.config.values import Problem, Section

MAX_CA_BYTES = 256 << 10


class DatabaseTls(Section, frozen=True, kw_only=True):
    """How a database proves that it is the right one."""

    mode: Literal["verify-full", "verify-ca", "insecure"] = "verify-full"
    """`verify-full`: authority and name; `verify-ca`: authority; `insecure`: nothing."""
    server_name: str = ""
    """Name in its certificate, where that is not the one in `uri`."""
    ca_cert_file: str = ""
    """Authorities to trust instead of the cluster's own for databases."""
    trust_system_cert_pool: bool = False
    """Trust those of the system as well."""


class DatabaseMysql(Section, frozen=True, kw_only=True):
    """For MySQL and MariaDB."""

    server_version: str = ""
    """Version that is shown to clients."""


class AdminUser(Section, frozen=True, kw_only=True):
    """Who makes users on demand."""

    name: str = ""
    """Its name in the database."""
    default_database: str = ""
    """Database that it connects to; empty: what the protocol has by itself."""


class DatabaseEntry(Section, frozen=True, kw_only=True):
    """A database that this host serves."""

    name: str
    """Its name: letters, digits and hyphens."""
    description: str = ""
    """Shown to users."""
    protocol: str
    """What it speaks: `postgres`, `mysql`, `redis`, ..."""
    uri: str
    """Where it is, `host:port`."""
    tls: DatabaseTls = DatabaseTls()
    """How it proves that it is the right one."""
    ca_cert_file: str = ""
    """Older place of `tls.ca_cert_file`."""
    mysql: DatabaseMysql = DatabaseMysql()
    """For MySQL and MariaDB."""
    static_labels: dict[str, str] = {}
    """Labels: what roles match on."""
    dynamic_labels: list[CommandLabel] = []
    """Labels made by commands on this host."""
    admin_user: AdminUser = AdminUser()
    """Who makes users on demand."""
    aws: dict[str, Any] = {}
    """Clouds are not part of this version: must be left out, as the four below."""
    gcp: dict[str, Any] = {}
    """Left out."""
    azure: dict[str, Any] = {}
    """Left out."""
    ad: dict[str, Any] = {}
    """Left out."""
    oracle: dict[str, Any] = {}
    """Left out."""

    def resource(self) -> Database:
        """The same as a resource, with the authorities' file read. Raises InputError."""
        ca_file = self.tls.ca_cert_file or self.ca_cert_file
        return Database(
            metadata=Metadata(name=self.name, description=self.description, labels=self.static_labels),
            spec=DatabaseSpec(
                protocol=self.protocol,
                uri=self.uri,
                tls=DbTls(
                    mode=self.tls.mode,
                    ca_cert=_read_ca(ca_file) if ca_file else "",
                    server_name=self.tls.server_name,
                    trust_system_cert_pool=self.tls.trust_system_cert_pool,
                ),
                admin_user=DbAdmin(
                    name=self.admin_user.name, default_database=self.admin_user.default_database
                )
                if self.admin_user.name
                else None,
                mysql=DbMysql(server_version=self.mysql.server_version)
                if self.mysql.server_version
                else None,
            ),
        )

    def problems(self, path: str) -> Iterator[Problem]:
        bare = Database(
            metadata=Metadata(name=self.name), spec=DatabaseSpec(protocol=self.protocol, uri=self.uri)
        )
        try:
            check_database(bare, "")
        except InputError as error:
            yield Problem(path, error.message.removeprefix(": "), error.hint or "see docs/database-access.md")
        for name in ("aws", "gcp", "azure", "ad", "oracle"):
            if getattr(self, name):
                yield from checks.not_built(f"{path}.{name}", found="a value", allowed="nothing")
        yield from checks.existing_absolute(f"{path}.tls.ca_cert_file", self.tls.ca_cert_file)
        yield from checks.existing_absolute(f"{path}.ca_cert_file", self.ca_cert_file)
        for index, label in enumerate(self.dynamic_labels):
            where = f"{path}.dynamic_labels[{index}]"
            if not label.name or not label.command:
                yield Problem(where, "no name or no command", "a name, and a program with its arguments")
            yield from checks.duration(f"{where}.period", label.period, least_s=1)


class ResourceMatcher(Section, frozen=True, kw_only=True):
    """Which dynamic databases this host serves."""

    labels: Labels = {}
    """Labels that they must have, as in roles; `"*": "*"`: all."""


class DbService(Section, frozen=True, kw_only=True):
    """The Database Service: databases of this network. It is reached through proxies only."""

    enabled: bool = False
    """Whether this host runs it."""
    databases: list[DatabaseEntry] = []
    """Those that this host serves."""
    resources: list[ResourceMatcher] = []
    """Which `db` resources of the cluster it serves besides."""
    aws: list[dict[str, Any]] = []
    """Finding databases in clouds is not part of this version: must be left out."""
    azure: list[dict[str, Any]] = []
    """Left out."""

    @property
    def matchers(self) -> list[DatabaseMatcher]:
        """`resources` as the cluster is told of them."""
        return [DatabaseMatcher(labels=matcher.labels) for matcher in self.resources]

    def problems(self, path: str) -> Iterator[Problem]:
        names: set[str] = set()
        for index, entry in enumerate(self.databases):
            where = f"{path}.databases[{index}]"
            yield from entry.problems(where)
            if entry.name in names:
                yield Problem(f"{where}.name", repr(entry.name), "a name that no other database here has")
            names.add(entry.name)
        for name in ("aws", "azure"):
            if getattr(self, name):
                yield from checks.not_built(f"{path}.{name}", found="a value", allowed="nothing")


def _read_ca(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_CA_BYTES + 1)
        text = raw.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not PEM text"
        raise InputError(f"the database's authorities: {file}: {reason}") from None
    if len(raw) > MAX_CA_BYTES or "BEGIN CERTIFICATE" not in text:
        raise InputError(f"the database's authorities: {file} holds no certificates in PEM")
    return text
