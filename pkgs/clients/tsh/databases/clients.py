"""What the native clients are called and told, by protocol: nothing here speaks one."""

from __future__ import annotations

import shlex
import shutil
from urllib.parse import quote

from pkgs.common.errors import InputError, NotFoundError

LOCAL = "127.0.0.1"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "postgres": ("psql",),
    "cockroachdb": ("psql",),
    "mysql": ("mariadb", "mysql"),
    "redis": ("redis-cli",),
}
"""Of each protocol, the one that is liked best first."""


def command(
    protocol: str, port: int, user: str, database: str, statement: str = "", *, installed: bool = True
) -> list[str]:
    """The words that start the native client on a port that `tsh proxy db --tunnel` serves; with a statement
    it runs that and ends. Raises NotFoundError when none is installed, InputError where none is known."""
    programs = PROGRAMS.get(protocol)
    if programs is None:
        raise InputError(
            f"tsh knows no client for {protocol}", hint="use 'tsh proxy db --tunnel' and a client of yours"
        )
    program = next((name for name in programs if shutil.which(name)), "")
    if not program and installed:
        raise NotFoundError(
            f"{' or '.join(programs)} is not installed", hint="install it, or use 'tsh proxy db --tunnel'"
        )
    program = program or programs[0]
    if program == "psql":
        return [program, url(protocol, port, user, database), *(["-c", statement] if statement else [])]
    if program == "redis-cli":
        # It takes a command as words of its own.
        return [program, "-h", LOCAL, "-p", str(port), *shlex.split(statement)]
    # The port is plain and on this machine; behind it is TLS.
    plain = "--skip-ssl" if program == "mariadb" else "--ssl-mode=DISABLED"
    words = [program, f"--host={LOCAL}", f"--port={port}", "--protocol=TCP", plain, f"--user={user}"]
    # A server may ask this client for any file of its user's, unless it is told not to give one.
    words += ["--local-infile=0"]
    words += [f"--execute={statement}"] if statement else []
    return [*words, *([f"--database={database}"] if database else [])]


def url(protocol: str, port: int, user: str, database: str) -> str:
    """The address of a tunnel's port, as many programs and libraries take it."""
    scheme = {"postgres": "postgresql", "cockroachdb": "postgresql"}.get(protocol, protocol)
    tail = "?sslmode=disable&gssencmode=disable" if scheme == "postgresql" else ""
    who = f"{quote(user, safe='')}@" if user else ""
    return f"{scheme}://{who}{LOCAL}:{port}/{quote(database, safe='')}{tail}"


def environment(
    protocol: str, *, host: str, port: int, user: str, database: str, ca: str, cert: str, key: str
) -> dict[str, str]:
    """Variables by which native clients find the database and prove who they are, for direct TLS. Raises
    InputError where the protocol's clients know none."""
    if protocol in ("postgres", "cockroachdb"):
        found = {
            "PGHOST": host,
            "PGPORT": str(port),
            "PGUSER": user,
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": ca,
            "PGSSLCERT": cert,
            "PGSSLKEY": key,
            "PGGSSENCMODE": "disable",
        }
        return {name: value for name, value in found.items() if value}
    if protocol == "mysql":
        # They know none for the files.
        return {"MYSQL_HOST": host, "MYSQL_TCP_PORT": str(port)}
    raise InputError(
        f"clients of {protocol} are not configured by variables", hint="see 'tsh db config' for the files"
    )
