"""What asking again about live sessions costs an agent: one pass over all of them, made every second."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from pkgs.agents.ssh.connection import SshConnection
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import AuthPreference, Lock, LockSpec, LockTarget, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from pkgs.common.ssh.service.client import Client
from pkgs.common.ssh.service.gate import Gate
from tests.bench.report import Row

SESSIONS = 500
LOCKS = 1_000
PASSES = 7


def run(full: bool = True) -> list[Row]:
    rows = []
    reference = _pass_ms(SESSIONS, 0)
    for sessions, locks in ((SESSIONS, LOCKS), *([(4 * SESSIONS, LOCKS)] if full else [])):
        ours = _pass_ms(sessions, locks)
        rows.append(
            Row(
                f"CPU of a pass over {sessions} live sessions, {locks} locks",
                ours,
                "ms",
                reference * sessions / SESSIONS,
                "without locks",
                goal="< 50 ms each second for 500",
                met=ours * SESSIONS / sessions < 50,
            )
        )
    return rows


def _pass_ms(sessions: int, locks: int) -> float:
    node = Node(
        metadata=Metadata(name="id-1", labels={"env": "prod", "team": "x"}), spec=ServerSpec(hostname="web-1")
    )
    roles = tuple(
        Role(
            metadata=Metadata(name=f"r{n}"),
            spec=RoleSpec(allow=Conditions(logins=["root"], node_labels={"env": "*", "team": team})),
        )
        for n, team in enumerate(("a", "b", "c", "d", "e", "x"))
    )
    cache: Any = SimpleNamespace(
        cluster_name="bench",
        locks=tuple(
            Lock(metadata=Metadata(name=f"l{n}"), spec=LockSpec(target=LockTarget(user=f"other-{n}")))
            for n in range(locks)
        ),
        auth_preference=AuthPreference(metadata=Metadata(name="p")),
        stale_for_s=0.0,
        roles_of=lambda identity: roles,
    )
    gate = Gate(cache, lambda: node, time.time)
    unused = dict.fromkeys(("emitter", "recorder", "unfinished", "log", "leases", "host_users", "book"))
    shared: Any = SimpleNamespace(gate=gate, **unused)
    start: Any = SimpleNamespace(client_addr="10.0.0.1:5000")
    live = []
    for number in range(sessions):
        one = SshConnection(shared, start, _must_not_end, lambda _: None)
        identity = Identity(
            kind=PeerKind.USER,
            name=f"user-{number}",
            cluster="bench",
            roles=tuple(role.name for role in roles),
            traits={"logins": ("root",)},
            logins=("root",),
            expires_at=time.time() + 3600,
            mfa_device="factor",
        )
        one.client = Client(identity, "root", b"", "10.0.0.1")
        live.append(one)
    best = float("inf")
    for _ in range(PASSES):
        began = time.process_time()
        for one in live:
            one.review(authorities=False)
        best = min(best, time.process_time() - began)
    return best * 1000


def _must_not_end(text: str) -> None:
    raise AssertionError(text)
