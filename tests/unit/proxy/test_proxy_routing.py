"""Targets: what names a server, what is ambiguous, and that a forbidden one reads like none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import AccessError, InputError, NotFoundError
from pkgs.common.resources.kinds import CommandLabel, NetworkingSpec, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.proxy.connections.routing import Target, choose, find, parse_target
from tests.harness.examples import examples

PLAIN = NetworkingSpec()


def node(host_id: str, hostname: str, addr: str = "", **labels: str) -> Node:
    return Node(
        metadata=Metadata(name=host_id, labels=labels),
        spec=ServerSpec(
            hostname=hostname,
            addr=addr,
            use_tunnel=not addr,
            cmd_labels={"arch": CommandLabel(command=["uname"], result="x86_64")},
        ),
    )


WEB = node("id-web", "web", env="prod")
DB = node("id-db", "db", "192.0.2.5:3022", env="prod", tier="1")
NODES = [WEB, DB, node("web", "impostor")]


def names(text: str, networking: NetworkingSpec = PLAIN, nodes: list[Node] | None = None) -> list[str]:
    found = find(parse_target(text, "demo"), NODES if nodes is None else nodes, networking)
    return [one.metadata.name for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db", ["id-db"]),
        ("db.demo", ["id-db"]),
        ("db:3022", ["id-db"]),
        ("db:22", ["id-db"]),
        ("db:0", ["id-db"]),
        ("db:4444", []),
        ("id-db", ["id-db"]),
        ("id-db.demo:22", ["id-db"]),
        ("192.0.2.5", ["id-db"]),
        ("192.0.2.5:3022", ["id-db"]),
        ("192.0.2.5:3023", []),
        ("env=prod", ["id-web", "id-db"]),
        ("env=prod, tier=1", ["id-db"]),
        ("arch=x86_64,tier=1", ["id-db"]),
        ("env=", []),
        ("DB", []),
        ("db.other", []),
        ("127.0.0.1", []),
        ("169.254.169.254", []),
    ],
)
def test_what_a_target_finds(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_a_host_id_is_exact_and_a_name_can_not_shadow_it() -> None:
    assert names("web") == ["web"]


def test_case_matters_unless_configured() -> None:
    assert names("DB", NetworkingSpec(case_insensitive_routing=True)) == ["id-db"]


def test_unknown_and_forbidden_read_the_same() -> None:
    with pytest.raises(NotFoundError) as unknown:
        choose(Target("x"), [], PLAIN, "demo")
    assert "no server 'x' in cluster 'demo'" in unknown.value.message


def test_an_ambiguous_target_lists_the_matches_shortly() -> None:
    many = [node(f"id-{number:02}", "web") for number in range(30)]
    with pytest.raises(InputError) as error:
        choose(Target("web"), many, PLAIN, "demo")
    assert "id-00" in error.value.message
    assert "and 10 more" in error.value.message
    assert len(error.value.message) < 1000


def test_most_recent_takes_the_freshest_heartbeat() -> None:
    old, new = (
        Node(
            metadata=Metadata(name=name, expires=datetime.now(UTC) + timedelta(minutes=minutes)),
            spec=ServerSpec(hostname="web"),
        )
        for name, minutes in (("old", 1), ("new", 9))
    )
    assert choose(Target("web"), [new, old], NetworkingSpec(routing_strategy="most_recent"), "demo") is new


@pytest.mark.parametrize(
    "text", ["", "x" * 600, "a\nb", "\x1b]52;c;x", ":22", "=x", "env=prod,", "a:b", "a:99999"]
)
def test_impossible_targets_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_target(text, "demo")


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        target = parse_target(text, "demo")
    except AccessError:
        return
    assert target.host or target.labels
    find(target, NODES, PLAIN)
