"""The live sessions a caller may see: asked for, and shown."""

from __future__ import annotations

import sys
import time

from pkgs.common.output.argv import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.common.api.sessions import SessionTracker
    from pkgs.common.rpc.calls import BlockingClient

KIND = Flag("kind", "Only sessions of this kind", choices=("", "ssh", "k8s", "db", "app", "desktop"),
            metavar="KIND")  # fmt: skip
DEADLINE_S = 30.0


def fetch(client: BlockingClient, *, kind: str = "", session_id: str = "") -> list[SessionTracker]:
    """The oldest first."""
    from pkgs.common.api.sessions import ListSessions

    request = ListSessions(kind=kind, session_id=session_id)
    return [session for part in client.stream(request, deadline_s=DEADLINE_S) for session in part.sessions]


def show(sessions: list[SessionTracker], format: str) -> None:
    """As a table, or whole as JSON or YAML."""
    if format != "text":
        from pkgs.common.output import formats

        formats.write_list(sessions, format)
        return
    from pkgs.common.output.table import render, terminal_width

    headers = ("ID", "Kind", "State", "Owner", "Login", "Hostname", "Age", "Participants", "Reason")
    rows = [
        (
            session.session_id,
            session.kind,
            f"{session.state}, detached" if session.detached else session.state,
            session.host_user,
            session.login,
            session.target_hostname,
            _age(time.time() - session.created),
            ",".join(f"{who.user} ({who.mode})" for who in session.participants if who.mode != "owner"),
            session.reason,
        )
        for session in sessions
    ]
    sys.stdout.write(render(headers, rows, width=terminal_width()))


def _age(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
