"""Several people at the terminals of one session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import paramiko

from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, JoinPolicy, RequirePolicy, Role, RoleOptions, RoleSpec
from tests.integration.ssh_kit import SshNode, User, wait_until
from tests.integration.terminal import Terminal

FLAGS = ("-tt", "-o", "SendEnv=TELEPORT_*")


def allowing(name: str, *modes: str, roles: tuple[str, ...] = ("*",), **options: Any) -> Role:
    """A role that lets its holders join sessions of others."""
    join = JoinPolicy(name=f"{name} joins", roles=list(roles), kinds=["ssh"], modes=list(modes))
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(options=RoleOptions(**options), allow=Conditions(join_sessions=[join])),
    )


def demanding(name: str, on_leave: str = "", modes: tuple[str, ...] = ("moderator",), count: int = 1) -> Role:
    """A role with a login whose sessions run in company only."""
    require = RequirePolicy(
        name="eyes",
        kinds=["ssh"],
        modes=list(modes),
        count=count,
        on_leave=on_leave,
        filter='contains(user.spec.roles, "auditor")',
    )
    allow = Conditions(logins=["root"], node_labels={"*": "*"}, require_session_join=[require])
    return Role(metadata=Metadata(name=name), spec=RoleSpec(allow=allow))


def prepare(node: SshNode) -> None:
    """Roles for everybody: `moderated` (its sessions end), `held` (its sessions pause), those who join."""
    for made in (
        demanding("moderated"),
        demanding("held", on_leave="pause"),
        allowing("auditor", "observer", "moderator"),
        allowing("watcher", "observer"),
        allowing("pair", "peer", "observer"),
        allowing("nobody"),
    ):
        node.state.roles[made.name] = made

    async def told() -> None:
        """Whoever should come has been told."""

    node.table.announce = told


def live(node: SshNode, user: str) -> str:
    """Id of this user's only live session."""

    def find() -> list[str]:
        return node.call(
            lambda: [
                tracker.session_id
                for tracker in (session.tracker() for session in node.table.all())
                if tracker.host_user == user
            ]
        )

    found: list[str] = wait_until(find, f"a session of {user}")
    assert len(found) == 1
    return found[0]


def at_terminal(user: User, *words: str, **env: str) -> AbstractContextManager[Terminal]:
    """OpenSSH on a terminal; whatever is left of it is ended."""
    return _running(user.argv(*words, before=FLAGS), env)


def joining(user: User, session_id: str, mode: str) -> AbstractContextManager[Terminal]:
    # A login with a dash is one that OpenSSH takes from a file only.
    config = user.folder / "join"
    config.write_text(f"User {JOIN_LOGIN}\n")
    argv = ["ssh", *user.options(), "-F", str(config), *FLAGS, "127.0.0.1", session_id]
    return _running(argv, {"TELEPORT_SSH_JOIN_MODE": mode})


@contextmanager
def _running(argv: list[str], env: dict[str, str]) -> Iterator[Terminal]:
    terminal = Terminal(argv, {**os.environ, **env})
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait(10)
            os.close(terminal.fd)


def read_until(channel: paramiko.Channel, mark: bytes) -> bytes:
    """What a channel gives up to the mark."""
    channel.settimeout(20)
    data = b""
    while mark not in data[-65536 - len(mark) :]:
        more = channel.recv(65536)
        assert more, f"it ended: {data[-500:]!r}"
        data += more
    return data
