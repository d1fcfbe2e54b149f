"""Access requests with the real programs: asked for, reviewed, waited for, used on servers, given back."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.cluster import BIN, OS_USER, PASSWORD, Cluster, Person
from tests.harness.wait import wait_for
from tests.integration.terminal import Terminal

ROLES = f"""
kind: role
version: v7
metadata: {{name: dev}}
spec:
  allow:
    logins: [nobody]
    node_labels: {{env: demo}}
    request:
      roles: [ops]
      search_as_roles: [ops]
      suggested_reviewers: [lena, otto]
      thresholds: [{{name: two eyes, approve: 2, deny: 1}}]
---
kind: role
version: v7
metadata: {{name: ops}}
spec:
  options: {{max_session_ttl: 2h}}
  allow:
    logins: ['{OS_USER}']
    node_labels: {{'*': '*'}}
---
kind: role
version: v7
metadata: {{name: lead}}
spec:
  allow:
    review_requests: {{roles: [ops], preview_as_roles: [ops]}}
---
kind: role
version: v7
metadata: {{name: ticketed}}
spec:
  options: {{request_access: reason, request_prompt: Which ticket?}}
  allow:
    logins: [nobody]
    request: {{roles: [ops]}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        made.tctl("create", stdin=ROLES).ok()
        made.add_node("second", "env=prod")
        yield made


@pytest.fixture(scope="module")
def lena(cluster: Cluster) -> Person:
    return cluster.login("lena", "lead")


@pytest.fixture(scope="module")
def otto(cluster: Cluster) -> Person:
    return cluster.login("otto", "lead")


@pytest.fixture(scope="module")
def mia(cluster: Cluster) -> Person:
    return cluster.login("mia", "dev")


def asked(person: Person, *words: str) -> str:
    """Ask without waiting; the id."""
    before = _ids(person)
    person.tsh("request", "create", *words, "--nowait").ok()
    (made,) = _ids(person) - before
    return made


def _ids(person: Person) -> set[str]:
    found = json.loads(person.tsh("request", "ls", "--my-requests", "--format=json").ok().out)
    return {each["metadata"]["name"] for each in found}


def status(person: Person) -> dict[str, Any]:
    active: dict[str, Any] = json.loads(person.tsh("status", "--format=json").ok().out)["active"]
    return active


def waiting(person: Person, *words: str) -> subprocess.Popen[str]:
    """A tsh that waits for a decision."""
    program = subprocess.Popen(
        [BIN / "tsh", *words],
        env=person.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stderr is not None
    assert "Waiting for the decision" in program.stderr.readline()
    return program


def test_approval_while_the_user_waits_continues_the_login(
    cluster: Cluster, lena: Person, otto: Person
) -> None:
    dora = cluster.login("dora", "dev")
    assert dora.tsh("ssh", f"{OS_USER}@demo-node", "true").code != 0
    assert "ops" in dora.tsh("request", "search", "--roles").ok().out
    program = waiting(
        dora, "login", "--request-roles=ops", "--request-reason=restore", "--request-reviewers=lena"
    )
    (name,) = _ids(dora)
    shown = lena.tsh("request", "ls", "--reviewable").ok().out
    assert name in shown and "dora" in shown
    first = lena.tsh("request", "review", name, "--approve", "--reason=fine").ok()
    assert first.err == "Successfully submitted review.  Request state: PENDING\n"
    assert "APPROVED" in otto.tsh("request", "review", name, "--approve").ok().err
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert "Roles:             dev, ops" in out and f"Active requests:   {name}" in out
    assert dora.tsh("ssh", f"{OS_USER}@demo-node", "echo", "in").ok().out == "in\n"
    assert dora.tsh("ssh", f"{OS_USER}@second", "true").code == 0
    session = cluster.wait_event("session.start", user="dora")
    assert session["access_requests"] == [name]
    shown = lena.tsh("request", "show", name).ok().out
    assert "lena APPROVED: fine" in shown and "restore" in shown
    listed = cluster.tctl("requests", "ls").ok().out
    assert name in listed and "APPROVED" in listed
    assert cluster.tctl("request", "get", name).ok().out.startswith("Token")
    # Given back, it is as before.
    dora.tsh("request", "drop", name).ok()
    assert (status(dora)["roles"], status(dora)["active_requests"]) == (["dev"], [])
    assert dora.tsh("ssh", f"{OS_USER}@demo-node", "true").code != 0
    # And taken up again.
    dora.tsh("login", f"--request-id={name}").ok()
    assert status(dora)["roles"] == ["dev", "ops"]


def test_a22_a_request_for_one_server_reaches_exactly_that_one(cluster: Cluster, lena: Person) -> None:
    sam = cluster.login("sam", "dev")
    found = json.loads(
        sam.tsh("request", "search", "--kind=node", "--query", 'name == "second"', "--format=json").ok().out
    )
    (resource,) = [each["id"] for each in found]
    assert resource in sam.tsh("request", "search", "--kind=node", "env=prod").ok().out
    name = asked(sam, f"--resource={resource}")
    assert "(second)" in lena.tsh("request", "show", name).ok().out
    cluster.tctl("requests", "approve", name, "--delegator=boss", "--annotations=ticket=7").ok()
    sam.tsh("login", f"--request-id={name}").ok()
    assert status(sam)["allowed_resources"] == [resource]
    assert "Allowed resources: " + resource in sam.tsh("status").ok().out
    names = sam.tsh("ls", "--format=names").ok().out.split()
    assert names == ["second"]
    assert sam.tsh("ssh", f"{OS_USER}@second", "echo", "in").ok().out == "in\n"
    for login in ("nobody", OS_USER):
        assert sam.tsh("ssh", f"{login}@demo-node", "true").code != 0
    # Stock OpenSSH goes the same way.
    assert sam.ssh(f"{OS_USER}@demo-node.demo", "true").code != 0
    # Denied after the approval: the cluster refuses at once, and the drop brings the old login back.
    cluster.tctl("requests", "deny", name, "--reason=enough").ok()
    refused = sam.tsh("ls")
    assert refused.code == 1 and "tsh request drop" in refused.err
    sam.tsh("request", "drop").ok()
    assert sam.tsh("ls", "--format=names").ok().out.split() == ["demo-node"]
    again = sam.tsh("login", f"--request-id={name}")
    assert again.code == 1 and "DENIED: enough" in again.err


def test_a_lock_on_a_request_ends_its_use_on_servers(cluster: Cluster) -> None:
    lou = cluster.login("lou", "dev")
    name = asked(lou, "--roles=ops")
    cluster.tctl("requests", "approve", name).ok()
    lou.tsh("login", f"--request-id={name}").ok()
    lou.tsh("ssh", f"{OS_USER}@demo-node", "true").ok()
    cluster.tctl("lock", f"--access-request={name}").ok()

    def refused() -> bool:
        return lou.tsh("ssh", f"{OS_USER}@demo-node", "true").code != 0

    wait_for(refused, what="the server to know of the lock")


def test_interrupted_the_request_stays_and_the_way_back_is_told(cluster: Cluster) -> None:
    ina = cluster.login("ina", "dev")
    program = waiting(ina, "request", "create", "--roles=ops")
    (name,) = _ids(ina)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert f"tsh login --request-id={name}" in err
    assert cluster.tctl("requests", "review", name, "--author=nobody", "--approve").code == 1
    program = waiting(ina, "login", f"--request-id={name}")
    cluster.tctl("requests", "deny", name, "--reason=no need").ok()
    _, err = program.communicate(timeout=60)
    assert program.returncode == 1 and "DENIED: no need" in err
    assert status(ina)["roles"] == ["dev"]


def test_a_role_asks_for_a_request_at_log_in(cluster: Cluster) -> None:
    tick = cluster.person("tick", "ticketed")
    without = tick.login()
    assert without.code == 2 and "--request-reason" in without.err
    assert status(tick)["roles"] == ["ticketed"]
    words = ["login", f"--proxy={cluster.proxy_addr}", "--user=tick", "--insecure", "--force"]
    screen = Terminal([str(BIN / "tsh"), *words], tick.env)
    screen.expect("Password of tick")
    screen.type(PASSWORD)
    screen.expect("Which ticket?")
    screen.expect("Reason:")
    screen.type("T-17")
    screen.expect("Waiting for the decision")
    (name,) = _ids(tick)
    cluster.tctl("requests", "approve", name).ok()
    assert screen.end() == 0, screen.shown
    assert status(tick)["roles"] == ["ticketed", "ops"]
    (event,) = [e for e in cluster.events("access_request.create") if e["user"] == "tick"]
    assert (event["reason"], event["roles"]) == ("T-17", ["ops"])


def test_administrators(cluster: Cluster, lena: Person) -> None:
    ada = cluster.login("ada", "dev")
    dry = json.loads(cluster.tctl("requests", "create", "ada", "--dry-run").ok().out)
    assert dry["spec"]["roles"] == ["ops"]
    name = cluster.tctl("requests", "create", "ada", "--roles=ops", "--reason=" + "x" * 90).ok().out.strip()
    listed = cluster.tctl("requests", "ls").ok().out
    assert "x" * 75 + "... [*]" in listed and "x" * 76 not in listed
    assert "x" * 90 in cluster.tctl("requests", "get", name).ok().out
    done = cluster.tctl("requests", "review", name, "--author=lena", "--approve", "--reason=by phone").ok()
    assert done.err == "Successfully submitted review.  Request state: PENDING\n"
    assert cluster.tctl("requests", "review", name, "--author=ada", "--approve").code == 1
    cluster.tctl("requests", "approve", name).ok()
    kept = cluster.tctl("requests", "rm", name)
    assert kept.code == 2 and "--force" in kept.err
    assert name in cluster.tctl("requests", "rm", name, "--force").ok().out
    assert cluster.tctl("requests", "get", name).code == 1
    assert "Requestable Roles: ops" in cluster.tctl("requests", "caps", "ada").ok().out
    refused = ada.tsh("request", "review", name, "--approve")
    assert refused.code == 1 and "not found" in refused.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("request", "create"), "--roles or --resource"),
        (("request", "create", "--roles=access"), 'can not request role "access"'),
        (("request", "create", "--roles=ops", "--reason=" + "x" * 5000), "at most 4096 characters"),
        (("request", "create", "--roles=ops", "--max-duration=3d"), "at most"),
        (("request", "create", "--roles=ops", "--session-ttl=soon"), "not a duration"),
        (("request", "create", "--roles=ops", "--assume-start-time=soon"), "is no time"),
        (("request", "create", "--resource=node/x"), "not a resource id"),
        (("request", "create", "--resource=/demo/node/x"), 'can not request node "x"'),
        (("request", "create", "--resource=/demo/pod/k/ns/x"), "cannot be requested"),
        (("request", "review", "x"), "--approve, --deny"),
        (("request", "review", "x", "--approve", "--deny"), "--approve, --deny"),
        (("request", "show", "x"), "not found"),
        (("request", "search"), "--kind="),
        (("request", "ls", "--my-requests", "--suggested"), "use only one"),
        (("login", "--request-id=x", "--request-roles=y"), "use only one"),
        (("login", "--request-id=x"), "not found"),
        (("login", "--request-roles=ops", "--out=x"), "without --out"),
        (("request", "create", "--roles=ops", "-i", "/nowhere"), ""),
    ],
)
def test_mistakes_are_told_in_one_line(mia: Person, words: tuple[str, ...], says: str) -> None:
    done = mia.tsh(*words)
    assert done.code in (1, 2)
    assert says in done.err
    assert done.err.startswith("ERROR: ") and "Traceback" not in done.err
