"""Hours and networks of roles with the real programs: login, clients, sessions that go on, the story."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.harness.cluster import BIN, OS_USER, Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        yield made


def role(cluster: Cluster, name: str, conditions: str) -> None:
    cluster.tctl(
        "create", "-f",
        stdin=f"kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec:\n  allow:\n"
        f"    logins: [{OS_USER}]\n    node_labels: {{'*': '*'}}\n    {conditions}\n",
    ).ok()  # fmt: skip


def hours(begin_s: int, end_s: int) -> str:
    """A window from and to so many seconds from now, of every day."""
    now = datetime.now(UTC)
    begin, end = (now + timedelta(seconds=s) for s in (begin_s, end_s))
    return f"when: [{{hours: '{begin:%H:%M}-{end:%H:%M}'}}]"


INSIDE, OUTSIDE = (-3600, 7200), (7200, 10_800)


def test_a_role_counts_within_its_hours_and_a_session_ends_with_them(cluster: Cluster) -> None:
    role(cluster, "shift", hours(*INSIDE))
    alice = cluster.login("alice", roles="shift")
    assert alice.tsh("ssh", f"{OS_USER}@demo-node", "echo in").ok().out == "in\n"
    assert alice.ssh(f"{OS_USER}@demo-node.demo", "echo in").ok().out == "in\n"
    argv = [str(BIN / "tsh"), "ssh", f"{OS_USER}@demo-node", "echo up; sleep 100"]
    with subprocess.Popen(argv, env=alice.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        assert live.stdout is not None and live.stderr is not None
        assert live.stdout.readline() == b"up\n"
        began = datetime.now(UTC)
        role(cluster, "shift", hours(*OUTSIDE))
        assert live.wait(15) != 0
        assert (datetime.now(UTC) - began).total_seconds() < 8
        assert b"no longer allowed" in live.stderr.read()
    # Neither client gets in, nor a listing, nor a certificate with the login.
    refused = alice.tsh("ssh", f"{OS_USER}@demo-node", "true")
    assert refused.code != 0
    assert "Traceback" not in refused.err
    assert alice.ssh(f"{OS_USER}@demo-node.demo", "true").code != 0
    assert "demo-node" not in alice.tsh("ls").ok().out
    found = json.loads(
        cluster.tctl(
            "access", "explain", "--user=alice", "ssh", f"{OS_USER}@demo-node", "--format=json"
        ).ok().out
    )  # fmt: skip
    assert not found["allowed"]
    assert [step["field"] for step in found["missing"]] == ["allow.when"]
    then = datetime.now(UTC) + timedelta(seconds=9000)
    later = cluster.tctl(
        "access", "explain", "--user=alice", f"--at={then:%Y-%m-%dT%H:%M:%SZ}", "ssh", f"{OS_USER}@demo-node"
    )
    assert later.ok().out.startswith("allowed: alice")


def test_a_login_outside_the_hours_gets_no_login_of_the_role(cluster: Cluster) -> None:
    role(cluster, "later", hours(*OUTSIDE))
    bob = cluster.login("bob", roles="later")
    shown = bob.tsh("status").ok().out
    assert OS_USER not in [word.strip(",") for word in shown.partition("Logins:")[2].splitlines()[0].split()]


def test_a_role_counts_from_its_networks_only(cluster: Cluster) -> None:
    role(cluster, "here", "from: [127.0.0.0/8, '::1']")
    role(cluster, "elsewhere", "from: [192.0.2.0/24]")
    carol, dan = cluster.login("carol", roles="here"), cluster.login("dan", roles="elsewhere")
    assert carol.tsh("ssh", f"{OS_USER}@demo-node", "echo in").ok().out == "in\n"
    assert carol.ssh(f"{OS_USER}@demo-node.demo", "echo in").ok().out == "in\n"
    assert dan.tsh("ssh", f"{OS_USER}@demo-node", "true").code != 0
    assert "demo-node" not in dan.tsh("ls").ok().out
    told = cluster.tctl("access", "explain", "--user=dan", "ssh", f"{OS_USER}@demo-node").ok().out
    assert "counts only from 192.0.2.0/24" in told
    for addr, verdict in (("192.0.2.9", "allowed"), ("198.51.100.1", "denied")):
        asked = cluster.tctl(
            "access", "explain", "--user=dan", f"--from-addr={addr}", "ssh", f"{OS_USER}@demo-node"
        )
        assert asked.ok().out.startswith(verdict)


def test_a_denial_tells_why_to_whoever_may_know(cluster: Cluster) -> None:
    """The same story as `tctl access explain`; others read the flat denial."""
    cluster.tctl(
        "create", "-f",
        stdin="kind: role\nversion: v7\nmetadata: {name: reads-policy}\nspec:\n  allow:\n"
        f"    logins: [{OS_USER}]\n    node_labels: {{env: nowhere}}\n"
        "    rules: [{resources: [role, user], verbs: [list, read]}]\n",
    ).ok()  # fmt: skip
    rita, mona = cluster.login("rita", roles="reads-policy"), cluster.login("mona", roles="auditor")
    told = rita.tsh("ssh", f"{OS_USER}@demo-node", "true")
    assert told.code != 0
    assert "role reads-policy does not allow the labels" in told.err, told.err
    flat = mona.tsh("ssh", f"{OS_USER}@demo-node", "true")
    assert flat.code != 0
    assert "role auditor" not in flat.err
