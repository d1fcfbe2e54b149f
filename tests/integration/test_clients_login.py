"""Signing up, logging in and out, identities: the real programs against a real Auth Service and proxy."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import totp
from tests.harness.cluster import BIN, OS_USER, PASSWORD, Cluster, Person, run
from tests.harness.wait import wait_for
from tests.integration.terminal import Terminal


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running(second_factor="otp", services=("auth", "proxy")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> Person:
    return cluster.login("alice", roles="access,editor,auditor")


def test_a_person_signs_up_and_logs_in_at_a_terminal(cluster: Cluster) -> None:
    home = cluster.dir / "home-term"
    home.mkdir()
    person = Person("terry", home, cluster)
    link = cluster.invite("terry")
    screen = Terminal([str(BIN / "tsh"), "signup", link, "--insecure"], person.env)
    screen.expect("join as terry in demo")
    screen.expect("Password (")
    screen.type(PASSWORD)
    screen.expect("The same again")
    screen.type(PASSWORD)
    screen.expect("type the secret: ")
    screen.expect("One-time code")
    secret = re.search(r"type the secret: ([A-Z2-7]+)", screen.shown)
    assert secret
    person.otp_secret = secret[1]
    # The code as a QR picture of half blocks.
    assert sum(screen.shown.count(char) for char in "▀▄█") > 100
    screen.type(totp.code(secret[1]))
    assert screen.end() == 0, screen.shown
    assert f"tsh login --proxy={cluster.proxy_addr} --user=terry" in screen.shown
    assert PASSWORD not in screen.shown

    words = ["login", f"--proxy={cluster.proxy_addr}", "--user=terry", "--insecure"]
    screen = Terminal([str(BIN / "tsh"), *words], person.env)
    screen.expect("Password of terry")
    screen.type(PASSWORD)
    screen.expect("One-time code")
    screen.type(totp.code(secret[1], step_offset=1))
    assert screen.end() == 0, screen.shown
    assert "Logged in as:      terry" in screen.shown
    assert PASSWORD not in screen.shown
    # A login that still holds is not asked for again.
    again = person.tsh(*words).ok()
    assert "Logged in as:      terry" in again.out


def test_two_passwords_that_differ_are_refused(cluster: Cluster) -> None:
    person = Person("tim", cluster.dir / "home-tim", cluster)
    person.home.mkdir()
    screen = Terminal([str(BIN / "tsh"), "signup", cluster.invite("tim"), "--insecure"], person.env)
    screen.expect("Password (")
    screen.type(PASSWORD)
    screen.expect("The same again")
    screen.type(PASSWORD + "x")
    assert screen.end() == 2
    assert "differ" in screen.shown


def test_secrets_come_only_from_terminal_stdin_or_environment(cluster: Cluster, alice: Person) -> None:
    base = ("login", f"--proxy={cluster.proxy_addr}", "--user=alice", "--insecure", "--force")
    nowhere = alice.tsh(*base)
    assert nowhere.code == 2
    assert "--password-stdin" in nowhere.err
    assert alice.tsh(*base, "--password=x").code == 2
    ended = alice.tsh(*base, "--password-stdin")
    assert ended.code == 2
    env = {**alice.env, "TELEPORT_PASSWORD": "not-the-password"}
    done = run(BIN / "tsh", *base, "--otp-stdin", env=env, stdin="000000\n")
    assert done.code == 1
    assert "invalid" in done.err


def test_files_are_private_and_laid_out_as_known(cluster: Cluster, alice: Person) -> None:
    home = alice.home / ".tsh"
    for path in (home, *home.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    keys = home / "keys" / "127.0.0.1"
    found = {str(p.relative_to(keys)) for p in keys.rglob("*") if p.is_file()}
    assert found == {
        "alice", "alice.pub", "alice.key", "alice.crt", "certs.pem", "cas/demo.pem",
        "alice-ssh/demo-cert.pub",
    }  # fmt: skip
    assert (home / "current-profile").read_text() == "127.0.0.1\n"
    assert "@cert-authority 127.0.0.1,demo,*.demo ssh-" in (home / "known_hosts").read_text()


def test_the_web_certificate_is_checked_unless_insecure(cluster: Cluster, alice: Person) -> None:
    done = alice.tsh("login", f"--proxy={cluster.proxy_addr}", "--force", "--password-stdin", stdin="x\n")
    assert done.code == 1
    assert "certificate" in done.err and "--insecure" in done.err


def test_status_for_programs(alice: Person) -> None:
    active = json.loads(alice.tsh("status", "--format=json").ok().out)["active"]
    assert (active["username"], active["cluster"], active["logins"]) == ("alice", "demo", [OS_USER])
    assert active["roles"] == ["access", "editor", "auditor"]
    assert alice.tsh("clusters", "--format=json").ok().out.count("demo") == 1
    assert f"export TELEPORT_PROXY={alice.cluster.proxy_addr}\n" in alice.tsh("env").ok().out
    assert alice.tsh("env", "--unset").ok().out == "unset TELEPORT_PROXY\nunset TELEPORT_CLUSTER\n"


def test_another_cluster_is_not_known(alice: Person) -> None:
    for words in (("ls", "--cluster=other"), ("ssh", "-c", "other", "root@x", "true")):
        done = alice.tsh(*words)
        assert done.code == 2
        assert "other" in done.err


@pytest.mark.needs("ssh-keygen")
def test_identities(cluster: Cluster, alice: Person, tmp_path: Path) -> None:
    """One login yields one code each half minute, so the administrator makes them here."""
    path = tmp_path / "id"
    cluster.tctl("auth", "sign", "--user=alice", f"--out={path}").ok()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    env = {**alice.env, "TELEPORT_HOME": str(tmp_path / "none")}
    words = ("-i", path, f"--proxy={cluster.proxy_addr}")
    assert json.loads(run(BIN / "tsh", *words, "ls", "--format=json", env=env).ok().out) == []
    for addr in (cluster.proxy_addr, f"127.0.0.1:{cluster.auth_port}"):
        done = run(BIN / "tctl", f"--auth-server={addr}", "-i", path, "users", "ls", env=env)
        assert "alice" in done.ok().out
    assert run(BIN / "tsh", "-i", path, "ls", env=env).code == 2
    again = cluster.tctl("auth", "sign", "--user=alice", f"--out={path}")
    assert again.code == 1 and "--overwrite" in again.err
    cluster.tctl("auth", "sign", "--user=alice", f"--out={tmp_path}/key", "--format=openssh").ok()
    shown = run("ssh-keygen", "-Lf", tmp_path / "key-cert.pub").ok().out
    assert 'Key ID: "alice"' in shown
    cluster.tctl("auth", "sign", "--host=web,10.0.0.1", f"--out={tmp_path}/host", "--format=openssh").ok()
    assert "10.0.0.1" in run("ssh-keygen", "-Lf", tmp_path / "host-cert.pub").ok().out
    assert cluster.tctl("auth", "sign", "--user=a", "--host=b", "--out=x").code == 2
    assert cluster.tctl("auth", "sign", "--user=nobody-there", f"--out={tmp_path}/n").code == 1
    assert not (tmp_path / "n").exists()


def test_tctl_by_the_tsh_login(cluster: Cluster, alice: Person) -> None:
    env = {**alice.env, "TELEPORT_CONFIG_FILE": ""}
    assert "alice" in run(BIN / "tctl", "users", "ls", env=env).ok().out
    nobody = {**env, "TELEPORT_HOME": str(cluster.dir / "none")}
    done = run(BIN / "tctl", "users", "ls", env=nobody)
    assert done.code == 1
    assert "tsh login" in done.err


def test_users_from_beginning_to_end(cluster: Cluster) -> None:
    out = cluster.tctl("users", "add", "zed", "--roles=access", "--logins=a,b", "--ttl=30m").ok().out
    assert 'User "zed" has been created but requires a password' in out
    assert "link is valid for 30m:\nhttps://" in out
    assert "tsh signup https://" in out
    twice = cluster.tctl("users", "add", "zed", "--roles=access")
    assert twice.code == 1 and "already" in twice.err
    cluster.tctl("users", "update", "zed", "--set-logins=c", "--set-roles=access,auditor").ok()
    spec = cluster.get("user/zed")[0]["spec"]
    assert spec["traits"]["logins"] == ["c"]
    assert spec["roles"] == ["access", "auditor"]
    assert "/web/reset/" in cluster.tctl("users", "reset", "zed").ok().out
    listed = json.loads(cluster.tctl("users", "ls", "--format=json").ok().out)
    assert "zed" in [user["metadata"]["name"] for user in listed]
    cluster.tctl("users", "rm", "zed").ok()
    assert cluster.tctl("users", "rm", "zed").code == 1
    assert cluster.tctl("users", "add", "x").code == 2


def test_asking_why(cluster: Cluster, alice: Person) -> None:
    node = cluster.dir / "node.yaml"
    host_id = "11111111-2222-4333-8444-555555555555"
    node.write_text(
        f"kind: node\nversion: v2\nmetadata: {{name: {host_id}, labels: {{env: prod}}}}\n"
        "spec: {hostname: web1}\n"
    )
    cluster.tctl("create", str(node)).ok()
    try:
        yes = f"{OS_USER}@web1"
        out = cluster.tctl("access", "explain", "--user=alice", "ssh", yes).ok().out
        assert out.startswith(f"allowed: alice, ssh {yes}\n")
        out = cluster.tctl("access", "explain", "--user=alice", "ssh", "deploy@web1").ok().out
        assert "role access allows the labels but not the login deploy" in out
        assert out.endswith("missing:\n  role access: add to allow.logins: deploy\n")
        words = ("--user=alice", "--roles=auditor", "--format=json", "resource", "role", "update")
        found = json.loads(cluster.tctl("access", "explain", *words).ok().out)
        assert found["allowed"] is False
        assert found["missing"] == [
            {"change": "add", "role": "auditor", "field": "allow.rules", "value": "role update"}
        ]
        assert "alice" in cluster.tctl("access", "who", "ssh", yes).ok().out
        (grant,) = json.loads(cluster.tctl("access", "what", "--user=alice", "--format=json").ok().out)
        assert (grant["resource"], grant["principals"]) == ("web1", [OS_USER])
        query = 'labels["env"] == "prod" && regexp.match(name, "web*")'
        assert "web1" in cluster.tctl("nodes", "ls", f"--query={query}").ok().out
        assert "web1" in run(BIN / "tsh", "ls", f"--query={query}", env=alice.env).ok().out
        for done in (
            cluster.tctl("nodes", "ls", '--query=lable == "x"'),
            run(BIN / "tsh", "ls", '--query=lable == "x"', env=alice.env),
        ):
            assert done.code == 2
            assert "at character 1: unknown name 'lable', did you mean labels?" in done.err
            assert '\n      lable == "x"\n      ^\n' in done.err
    finally:
        cluster.tctl("rm", f"node/{host_id}").ok()


def test_tokens_from_beginning_to_end(cluster: Cluster) -> None:
    out = cluster.tctl("tokens", "add", "--type=node", "--ttl=1h").ok().out
    token = re.search(r"--token=([0-9a-f]{32})", out)
    assert token
    assert re.search(r"--ca-pin=sha256:[0-9a-f]{64}", out)
    assert f"--proxy-server={cluster.proxy_addr}" in out
    assert token[1] not in cluster.tctl("tokens", "ls").ok().out
    assert token[1] in cluster.tctl("tokens", "ls", "--with-secrets").ok().out
    made = json.loads(cluster.tctl("nodes", "add", "--format=json").ok().out)
    assert made["roles"] == ["Node"]
    cluster.tctl("tokens", "rm", token[1]).ok()
    assert token[1] not in cluster.tctl("tokens", "ls", "--format=text", "--with-secrets").ok().out


def test_authorities_as_lines_that_openssh_takes(cluster: Cluster, tmp_path: Path) -> None:
    user = cluster.tctl("auth", "export", "--type=user").ok().out
    assert re.fullmatch(r"cert-authority ssh-ed25519 \S+ clustername=demo&type=user\n", user)
    openssh = cluster.tctl("auth", "export", "--type=openssh").ok().out
    assert openssh.startswith("ssh-") and openssh.split()[1] not in user
    host = cluster.tctl("auth", "export", "--type=host").ok().out
    assert re.fullmatch(r"@cert-authority \*\.demo,demo ssh-ed25519 \S+ clustername=demo&type=host\n", host)
    for kind in ("tls-host", "tls-user"):
        assert cluster.tctl("auth", "export", f"--type={kind}").ok().out.startswith("-----BEGIN CERTIFICATE")
    assert cluster.tctl("auth", "export").code == 2


def test_edit_is_conditional_and_keeps_the_text(cluster: Cluster, tmp_path: Path) -> None:
    cluster.tctl("create", stdin="kind: role\nversion: v7\nmetadata: {name: ed}\nspec: {}\n").ok()
    editor = tmp_path / "editor"

    def edit(script: str) -> object:
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o755)
        env = {**cluster.env, "TELEPORT_EDITOR": str(editor), "TMPDIR": str(tmp_path)}
        return run(BIN / "tctl", "-c", cluster.config, "edit", "role/ed", env=env)

    add = "sed -i 's/^  name: ed/  name: ed\\n  description: mine/' \"$1\""
    assert "cancelled" in edit("true").ok().out  # type: ignore[attr-defined]
    assert "updated" in edit(add).ok().out  # type: ignore[attr-defined]
    assert cluster.get("role/ed")[0]["metadata"]["description"] == "mine"
    renamed = edit("sed -i 's/^  name: ed/  name: other/' \"$1\"")
    assert renamed.code == 2 and "renaming" in renamed.err  # type: ignore[attr-defined]
    other = f"{BIN}/tctl -c {cluster.config} users ls >/dev/null"
    upsert = (
        f"{BIN}/tctl -c {cluster.config} get role/ed | {BIN}/tctl -c {cluster.config} create -f >/dev/null"
    )
    stale = edit(f"{other}; {upsert}; sed -i 's/description: mine/description: yours/' \"$1\"")
    assert stale.code == 1 and "changed by somebody else" in stale.err  # type: ignore[attr-defined]
    kept = re.search(r"kept in (\S+);", stale.err)  # type: ignore[attr-defined]
    assert kept and "yours" in Path(kept[1]).read_text()


def test_audit_can_be_followed(cluster: Cluster) -> None:
    process = subprocess.Popen(
        [
            str(BIN / "tctl"),
            "-c",
            str(cluster.config),
            "audit",
            "tail",
            "-f",
            "-n",
            "0",
            "--type=user.create",
        ],
        env=cluster.env,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen = b""

    def followed() -> bool:
        nonlocal seen
        seen += process.stdout.read() or b""  # type: ignore[union-attr]
        if b"user.create" in seen:
            return True
        cluster.tctl("users", "add", f"u{time.monotonic_ns()}", "--roles=access").ok()
        return False

    with process:
        try:
            wait_for(followed, what="the new event to be shown", every_s=0.2)
            process.send_signal(2)
            assert process.wait(10) == 130
        finally:
            process.kill()


def test_logout_of_one_and_of_all(cluster: Cluster) -> None:
    person = cluster.login("lou")
    assert person.tsh("logout", "--proxy=elsewhere").ok().out == "Not logged in.\n"
    assert "Logged out of 127.0.0.1" in person.tsh("logout").ok().out
    assert [p for p in (person.home / ".tsh").rglob("*") if p.is_file() and p.name != "known_hosts"] == []
    done = person.tsh("status")
    assert done.code == 1
    assert "not logged in" in done.err
