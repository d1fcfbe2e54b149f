"""Log in, reach a server through one port, see it recorded: with the second factor on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.harness import totp
from tests.harness.cluster import BIN, OS_USER, Cluster, Person, run
from tests.harness.wait import wait_for


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running(second_factor="otp") as made:
        yield made


def test_status_shows_who_and_until_when(alice: Person) -> None:
    out = alice.tsh("status").ok().out
    for words in ("alice", "demo", "access", OS_USER):
        assert words in out


def test_only_the_nodes_of_the_role_are_listed(cluster: Cluster, alice: Person) -> None:
    assert alice.tsh("ls", "--format=names").ok().out.split() == ["demo-node"]
    nodes = json.loads(alice.tsh("ls", "--format=json").ok().out)
    assert nodes[0]["spec"]["hostname"] == "demo-node"
    assert nodes[0]["metadata"]["labels"]["env"] == "demo"
    stranger = cluster.person("sven", roles="auditor")
    stranger.login().ok()
    assert stranger.tsh("ls", "--format=names").ok().out.split() == []


def test_exit_code_and_output_of_a_remote_command_are_passed_on(alice: Person) -> None:
    done = alice.tsh("ssh", f"{OS_USER}@demo-node", "echo hello; echo oops >&2; exit 3")
    assert (done.code, done.out.strip()) == (3, "hello")
    assert "oops" in done.err


def test_stock_openssh_after_tsh_config(alice: Person) -> None:
    assert "load average" in alice.ssh(f"{OS_USER}@demo-node.demo", "uptime").ok().out


def test_a_session_is_recorded_and_plays(alice: Person) -> None:
    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo played-back-text").ok()

    def recorded() -> str | None:
        listing = json.loads(alice.tsh("recordings", "ls", "--format=json").ok().out)
        hits = [r for r in listing if "played-back-text" in r.get("command", "")]
        return hits[0]["session_id"] if hits else None

    sid = wait_for(recorded, what="the recording to be listed", every_s=0.3)
    assert "played-back-text" in alice.tsh("play", sid, "--format=text").ok().out
    first = alice.tsh("play", sid, "--format=json").ok().out.splitlines()[0]
    assert json.loads(first)["event"] == "session.start"


def test_audit_names_the_session_and_verifies(cluster: Cluster, alice: Person) -> None:
    alice.tsh("ssh", f"{OS_USER}@demo-node", "true").ok()
    start = cluster.wait_event("session.start", user="alice")
    assert start["login"] == OS_USER
    assert start["code"] == "T2000I"
    assert cluster.wait_event("exec", user="alice")["exitCode"] in ("0", "3")
    cluster.wait_event("session.end", sid=start["sid"])
    cluster.tctl("audit", "verify").ok()


def test_get_nodes_as_json_feeds_a_script(cluster: Cluster) -> None:
    out = cluster.tctl("get", "nodes", "--format=json").ok().out
    assert run("jq", "-r", ".[].spec.hostname", stdin=out).ok().out.strip() == "demo-node"


def test_get_piped_into_create_changes_nothing_but_the_revision(cluster: Cluster) -> None:
    before = cluster.get("role/access")
    text = cluster.tctl("get", "role/access").ok().out
    cluster.tctl("create", "-f", "-", stdin=text).ok()
    after = cluster.get("role/access")
    for document in (*before, *after):
        document["metadata"].pop("revision", None)
    assert before == after


def test_a_log_level_change_needs_no_restart(cluster: Cluster) -> None:
    for level in ("WARN", "DEBUG"):
        run(BIN / "teleport", "debug", "set-log-level", level, "-c", cluster.config).ok()
        out = run(BIN / "teleport", "debug", "get-log-level", "-c", cluster.config).ok().out
        assert level in out


def test_the_second_factor_is_needed_and_serves_once(cluster: Cluster) -> None:
    bob = cluster.person("bob")
    code = totp.code(bob.otp_secret, step_offset=1)
    bob.login(otp=code).ok()
    again = bob.login(otp=code)
    assert again.code == 1
    assert "invalid" in again.err.lower()


def test_logout_leaves_no_key(alice: Person, cluster: Cluster) -> None:
    carol = cluster.login("carol")
    carol.tsh("logout").ok()
    left = [p for p in (carol.home / ".tsh").rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]
    assert left == []
    gone = carol.tsh("ls")
    assert gone.code == 1
    assert "tsh login" in gone.err
