"""Access through nested lists, with nothing but the programs: in, on the server, out again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness.cluster import BIN, OS_USER, Cluster, run


def test_alice_reaches_a_server_through_a_nested_list_as_long_as_she_is_in(cluster: Cluster) -> None:
    tctl = cluster.tctl
    role = "{kind: role, version: v7, metadata: {name: staff}, spec: {}}"
    tctl("create", stdin=role).ok()
    tctl("users", "add", "olga", "--roles=staff").ok()
    alice = cluster.person("alice", "staff", OS_USER)
    tctl("acl", "create", "team", "--title=The team", "--owners=olga").ok()
    made = tctl(
        "acl", "create", "prod", "--title=Production", "--owners=olga", "--member-access-lists=team",
        "--member-grant-roles=access", "--audit-frequency=3",
    ).ok()  # fmt: skip
    assert 'access list "prod" has been created' in made.out and 'list "team" has been added' in made.out

    node = f"{OS_USER}@{cluster.nodename}"
    alice.login().ok()
    assert alice.tsh("ssh", node, "echo reached").code != 0
    assert 'user "alice" has been added' in tctl("acl", "users", "add", "team", "alice").ok().out
    # A certificate says what it said when it was made.
    assert alice.tsh("ssh", node, "echo reached").code != 0
    alice.login().ok()
    assert alice.tsh("ssh", node, "echo reached").ok().out == "reached\n"
    assert "access" in alice.tsh("status").ok().out
    assert "as member of team > prod" in tctl("acl", "explain", "alice").ok().out
    allowed = tctl("access", "explain", "--user=alice", "ssh", node).ok().out
    assert allowed.startswith("allowed: alice")

    listed = json.loads(tctl("access-lists", "ls", "--format=json").ok().out)
    assert [found["metadata"]["name"] for found in listed] == ["prod", "team"]
    assert listed[1]["status"]["member_count"] == 1
    assert "Production" in tctl("acl", "ls", "--format=text").ok().out
    refused = tctl("acl", "rm", "team")
    assert refused.code != 0 and "tctl acl users rm prod team" in refused.err

    reviewed = tctl("acl", "reviews", "create", "team", "--notes=leaves us", "--remove-members=alice").ok()
    assert '"alice" has been removed' in reviewed.out
    assert "leaves us" in tctl("acl", "reviews", "ls", "team").ok().out
    alice.login().ok()
    assert alice.tsh("ssh", node, "echo reached").code != 0
    assert "access" not in alice.tsh("status").ok().out.split("Roles", 1)[1].splitlines()[0]

    # A copy of it all can be restored, owners first.
    backup = Path(cluster.dir) / "backup.yaml"
    backup.write_text(tctl("get", "access_list,access_list_member").ok().out)
    for name in ("prod", "team"):
        tctl("acl", "rm", name).ok()
    tctl("create", str(backup)).ok()
    assert "team" in tctl("acl", "users", "ls", "prod").ok().out
    assert {e["event"] for e in cluster.events("access_list.review")} == {"access_list.review"}


def test_resources_of_a_list_become_a_role_that_goes_with_it(cluster: Cluster) -> None:
    tctl = cluster.tctl
    bob = cluster.person("bob", "reviewer", OS_USER)
    tctl("acl", "create", "demo", "--title=Demo", "--owners=bob", "--members=bob", "--node-labels=env=demo",
         f"--logins={OS_USER}").ok()  # fmt: skip
    bob.login().ok()
    assert bob.tsh("ssh", f"{OS_USER}@{cluster.nodename}", "echo reached").ok().out == "reached\n"
    tctl(
        "acl", "update", "demo", "--access-type=request-based", f"--logins={OS_USER}", "--node-labels=*=*"
    ).ok()
    (found,) = cluster.get("access_list/demo")
    assert found["spec"]["grants"]["roles"] == ["acl-request-demo"]
    tctl("acl", "update", "demo", "--remove-access").ok()
    (found,) = cluster.get("access_list/demo")
    assert "roles" not in found["spec"].get("grants", {})
    assert "acl-" not in tctl("get", "roles").ok().out
    # bob owns it, and needs no rule to say who is in it; his old certificate names a role that is gone.
    bob.login().ok()
    members = ("acl", "users", "ls", "demo", "--format=json")
    (found,) = json.loads(run(BIN / "tctl", *members, env=bob.env).ok().out)
    assert found["metadata"]["name"] == "bob"
    assert run(BIN / "tctl", "acl", "users", "rm", "demo", "bob", env=bob.env).ok().out
    assert tctl("acl", "users", "ls", "demo").ok().out == "No members found\n"
    refused = run(BIN / "tctl", "acl", "update", "demo", "--member-grant-roles=editor", env=bob.env)
    assert refused.code != 0 and "access denied" in refused.err
