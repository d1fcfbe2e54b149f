"""Wrong things typed by people and sent by strangers: one clear line, the right exit code, no traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, OS_USER, PASSWORD, Cluster, Person, Run, run
from tests.harness.wait import wait_for


def refused(done: Run, *words: str, code: int = 1) -> None:
    """One line on stderr that says what was wrong, and no traceback."""
    assert done.code == code, (done.code, done.out, done.err)
    assert "Traceback" not in done.err + done.out
    for word in words:
        assert word.lower() in done.err.lower(), done.err


def test_wrong_password_and_unknown_user_read_the_same(cluster: Cluster) -> None:
    bob = cluster.person("bob")
    wrong = bob.login(password="not-the-password")
    refused(wrong, "invalid")
    nobody = Person("no-such-user", bob.home, cluster)
    unknown = nobody.login()
    refused(unknown, "invalid")
    assert wrong.err == unknown.err


def test_five_wrong_passwords_lock_the_account(cluster: Cluster) -> None:
    eve = cluster.person("eve")
    for _ in range(5):
        refused(eve.login(password="not-the-password"))
    refused(eve.login(password=PASSWORD))
    user = cluster.get("user/eve")[0]
    assert user["spec"]["status"]["is_locked"] is True


def test_an_invitation_serves_once(cluster: Cluster) -> None:
    link = cluster.invite("once")
    first = Person("once", cluster.dir / "h1", cluster)
    first.home.mkdir()
    first.signup(link)
    again = first.tsh("signup", link, "--insecure", "--password-stdin", stdin=PASSWORD + "\n")
    refused(again)


def test_a_short_password_is_refused_with_the_rule(cluster: Cluster) -> None:
    link = cluster.invite("short")
    person = Person("short", cluster.dir / "h2", cluster)
    person.home.mkdir()
    refused(person.tsh("signup", link, "--insecure", "--password-stdin", stdin="tiny\n"), "12")


def test_unknown_node_and_forbidden_login(cluster: Cluster, alice: Person) -> None:
    unknown = alice.tsh("ssh", f"{OS_USER}@no-such-node", "true")
    assert unknown.code != 0
    assert "no-such-node" in unknown.err
    assert "Traceback" not in unknown.err
    other = "daemon" if OS_USER != "daemon" else "nobody"
    denied = alice.tsh("ssh", f"{other}@demo-node", "true")
    assert denied.code != 0
    assert "Traceback" not in denied.err
    cluster.wait_event("auth", user="alice", login=other)


def test_a_role_without_the_node_sees_the_same_as_for_no_node(cluster: Cluster) -> None:
    sven = cluster.login("sven", roles="auditor")
    forbidden = sven.tsh("ssh", f"{OS_USER}@demo-node", "true")
    unknown = sven.tsh("ssh", f"{OS_USER}@other-node", "true")
    assert forbidden.code != 0
    assert forbidden.err.replace("demo-node", "X") == unknown.err.replace("other-node", "X")


def test_an_expired_login_says_so_and_how_to_renew(cluster: Cluster) -> None:
    cluster.tctl(
        "create", "-f", "-",
        stdin="kind: role\nversion: v7\nmetadata: {name: brief}\n"
        "spec:\n  options: {max_session_ttl: 3s}\n"
        f"  allow: {{logins: ['{OS_USER}'], node_labels: {{'*': '*'}}}}\n",
    ).ok()  # fmt: skip
    kim = cluster.person("kim", roles="brief")
    kim.login().ok()

    def expired() -> Run | None:
        done = kim.tsh("ls")
        assert done.code == 0 or "Traceback" not in done.err
        # A call that the expiry cuts in half ends as a lost connection; the next one says why.
        return done if "expired" in done.err else None

    done = wait_for(expired, what="the certificate to expire", deadline_s=15)
    refused(done, "expired", "tsh login")


def agent(cluster: Cluster, name: str, **flags: str) -> Run:
    """Run an agent that should give up by itself."""
    given = {
        "data-dir": str(cluster.dir / name),
        "proxy-server": cluster.proxy_addr,
        "nodename": name,
        **{k.replace("_", "-"): v for k, v in flags.items()},
    }
    return run(
        BIN / "teleport-ssh", *(f"--{k}={v}" for k, v in given.items()), "--insecure", env=cluster.env,
        timeout=40,
    )  # fmt: skip


def test_join_with_a_wrong_pin_stores_nothing(cluster: Cluster) -> None:
    done = agent(cluster, "badpin", token=cluster.token(), ca_pin="sha256:" + "0" * 64)
    refused(done, "pin")
    stored = [p for p in (cluster.dir / "badpin").rglob("*") if p.is_file() and b"PRIVATE" in p.read_bytes()]
    assert stored == []


def test_join_with_a_wrong_or_expired_token(cluster: Cluster) -> None:
    pin = cluster.ca_pin()
    refused(agent(cluster, "badtoken", token="0" * 32, ca_pin=pin), "token")
    brief = cluster.token(ttl="1s")
    wait_for(
        lambda: brief not in cluster.tctl("get", "tokens", "--format=json").out,
        what="the token to expire",
        every_s=0.3,
    )
    refused(agent(cluster, "latetoken", token=brief, ca_pin=pin), "token")


def test_a_token_for_another_role_is_refused(cluster: Cluster) -> None:
    refused(agent(cluster, "wrongrole", token=cluster.token(kind="proxy"), ca_pin=cluster.ca_pin()), "token")


def test_the_certificate_of_another_cluster_opens_nothing(cluster: Cluster) -> None:
    other = Cluster(name="other", services=("auth", "proxy"))
    try:
        other.start()
        mallory = other.login("mallory", roles="access,editor")
        home = mallory.home / ".tsh"
        profile = next(home.glob("*.yaml"))
        text = profile.read_text()
        profile.write_text(
            text.replace(str(other.web_port), str(cluster.web_port)).replace(
                str(other.ssh_port), str(cluster.ssh_port)
            )
        )
        for args in (("ls",), ("ssh", f"{OS_USER}@demo-node", "true")):
            done = mallory.tsh(*args)
            assert done.code != 0
            assert "Traceback" not in done.err
    finally:
        other.destroy()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: v3\nssh_servise: {enabled: yes}\n", ("ssh_servise", "ssh_service", "2")),
        ("version: v3\nssh_service:\n  enabled: yes\n  labels: 5\n", ("ssh_service.labels", "4")),
        ("version: v9\n", ("version", "v9")),
        ("version: v3\nteleport:\n  log: {severity: LOUD}\n", ("teleport.log.severity", "LOUD", "DEBUG")),
        ("version: v3\n  teleport: [\n", ("teleport.yaml",)),
    ],
)
def test_a_bad_configuration_is_one_line_with_file_line_and_path(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "teleport.yaml"
    path.write_text(text)
    for tool in ("teleport-auth", "teleport-proxy", "teleport-ssh"):
        done = run(BIN / tool, "-c", path)
        assert done.code != 0
        assert len(done.err.strip().splitlines()) == 1, done.err
        for word in ("teleport.yaml", *words):
            assert word in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: rol\nmetadata: {name: x}\n", ("rol", "role")),
        ("kind: role\nversion: v7\nmetadata: {name: x}\nspec: {alow: {}}\n", ("spec.alow", "allow")),
        ("kind: role\nversion: v7\nmetadata: {name: x}\nspec: {allow: {logins: ['*']}}\n", ("logins",)),
        ("", ("empty",)),
        ("a: &a [*a]\n", ()),
    ],
)
def test_a_bad_resource_is_refused_with_its_path(cluster: Cluster, text: str, words: tuple[str, ...]) -> None:
    done = cluster.tctl("create", "-f", "-", stdin=text)
    assert done.code in (1, 2)
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_a_stale_revision_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    text = cluster.tctl("get", "role/auditor").ok().out
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f"{BIN}/tctl -c {cluster.config} create -f - <<'EOF' >/dev/null\n{text}EOF\n"
        "sed -i 's/^  description:.*/  description: mine/' \"$1\"\n"
    )
    editor.chmod(0o755)
    done = run(
        BIN / "tctl", "-c", cluster.config, "edit", "role/auditor",
        env={**cluster.env, "TELEPORT_EDITOR": str(editor), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.code == 1
    assert "changed" in done.err or "revision" in done.err


def test_wrong_usage_exits_with_2(cluster: Cluster) -> None:
    for argv in (["tsh", "nonsense"], ["tctl", "get"], ["teleport", "start", "--nonsense"]):
        done = run(BIN / argv[0], *argv[1:], env=cluster.env)
        assert done.code == 2, (argv, done.err)


def test_names_from_the_network_are_printed_inert(cluster: Cluster) -> None:
    """A64 at the tools' edge: a label with escapes cannot reach the terminal."""
    label = "x\x1b]52;c;ZXZpbA==\x07y"
    done = cluster.tctl("create", "-f", "-", stdin=json.dumps({
        "kind": "role", "version": "v7", "metadata": {"name": "inert", "description": label}, "spec": {},
    }))  # fmt: skip
    if done.code == 0:
        for fmt in ("text", "yaml", "json"):
            out = cluster.tctl("get", "role/inert", f"--format={fmt}").ok().out
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x9b]", out)
