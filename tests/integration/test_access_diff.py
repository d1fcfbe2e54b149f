"""`tctl access diff` as it is run: against a cluster as the caller may see it, and offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkgs.clients.tctl.main import main
from pkgs.common.errors import DeniedError
from pkgs.common.resources.kinds import AuthPreference, User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from tests.integration.clients_kit import FakeCluster, node

ROLE = "kind: role\nversion: v7\nmetadata: {name: dev}\n" + (
    "spec: {allow: {logins: [root], node_labels: {env: %s}}}\n"
)
EVIL = "\x1b]52;c;ZXZpbA==\x07\u202e"


def stored(name: str, **allow: object) -> Role:
    return Role(metadata=Metadata(name=name), spec=RoleSpec(allow=Conditions(**allow)))  # type: ignore[arg-type]


def prepared(cluster: FakeCluster) -> Path:
    """Alice has the role dev, for servers of env=dev; the new one is for env=prod."""
    cluster.resources = [
        stored("dev", logins=["root"], node_labels={"env": "dev"}),
        User(metadata=Metadata(name="alice"), spec=UserSpec(roles=["dev"])),
        User(metadata=Metadata(name="bob"), spec=UserSpec(roles=["dev"])),
        AuthPreference(metadata=Metadata(name="cluster-auth-preference")),
        node("web1", env="dev"),
        node("db1", env="prod"),
        node("db2", env="prod"),
    ]
    new = cluster.folder / "new.yaml"
    new.write_text(ROLE % "prod")
    return new


def test_against_a_cluster(short_tmp: Path) -> None:
    with FakeCluster(short_tmp) as cluster:
        new = prepared(cluster)
        done = cluster.run("tctl", "access", "diff", "-f", str(new), "--user=alice")
        assert (done.returncode, done.stderr) == (2, b"")
        assert done.stdout.decode().splitlines() == [
            "+ alice ssh root@db1 and 1 more (role dev: allow.logins and allow.node_labels)",
            "- alice ssh root@web1 (was role dev: allow.logins and allow.node_labels;"
            " now no role allows this server and this login together)",
            "2 changes for 1 user",
        ]
        done = cluster.run("tctl", "access", "diff", "-f", str(new), "--format=json", "--kind=ssh,db")
        assert done.returncode == 2
        found = json.loads(done.stdout)
        assert [(one["user"], one["change"], one["count"], one["resources"]) for one in found["changes"]] == [
            ("alice", "gained", 2, ["db1", "db2"]),
            ("alice", "lost", 1, ["web1"]),
            ("bob", "gained", 2, ["db1", "db2"]),
            ("bob", "lost", 1, ["web1"]),
        ]
        new.write_text(ROLE % "dev")
        done = cluster.run("tctl", "access", "diff", "-f", str(new))
        assert (done.returncode, done.stdout) == (0, b"Nobody gains or loses anything.\n")


def test_errors_are_one_and_not_two(short_tmp: Path) -> None:
    with FakeCluster(short_tmp) as cluster:
        new = prepared(cluster)
        for words, said in (
            ((), "-f is required"),
            (("-f", "nowhere"), "nowhere"),
            (("-f", str(new), "--user=alic"), "did you mean alice?"),
            (("-f", str(new), "--kind=shh"), "did you mean ssh?"),
            (("-f", str(new), "--at=soon"), "--at"),
            (("-f", str(new), "--from-addr=home"), "is no IP address"),
        ):
            done = cluster.run("tctl", "access", "diff", *words)
            assert done.returncode == 1, words
            assert said in done.stderr.decode()
        cluster.error = DeniedError('access denied to perform action "list" on "role"')
        done = cluster.run("tctl", "access", "diff", "-f", str(new))
        assert done.returncode == 1 and b"access denied" in done.stderr


def test_who_may_not_see_all_is_told(short_tmp: Path) -> None:
    with FakeCluster(short_tmp) as cluster:
        new = prepared(cluster)
        cluster.config.unlink()
        cluster.config.write_text(
            "version: v3\nauth_service: {enabled: no}\nteleport: {auth_server: 127.0.0.1:1}\n"
        )
        done = cluster.run("tctl", "access", "diff", "-f", str(new), "--auth-server", cluster.addr)
        assert done.returncode == 2, done.stderr
        assert "compared for what you may see" in done.stderr.decode()


def test_a64_names_are_inert(short_tmp: Path) -> None:
    with FakeCluster(short_tmp) as cluster:
        new = prepared(cluster)
        cluster.resources.append(User(metadata=Metadata(name=f"u{EVIL}"), spec=UserSpec(roles=["dev"])))
        cluster.resources.append(node(f"n{EVIL}", env="prod"))
        for format in ("text", "json"):
            done = cluster.run("tctl", "access", "diff", "-f", str(new), f"--format={format}")
            shown = (done.stdout + done.stderr).decode()
            assert done.returncode == 2
            assert not {char for char in shown if not char.isprintable()} - {"\n"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "role.yaml").write_text(ROLE % "dev")
    (tmp_path / "new.yaml").write_text(ROLE % "'*'")
    (tmp_path / "users.yaml").write_text(
        "{kind: user, version: v2, metadata: {name: alice}, spec: {roles: [dev]}}\n---\n"
        "{kind: node, version: v2, metadata: {name: 11111111-2222-4333-8444-555555555555, labels: {env: x}},"
        " spec: {hostname: web1}}\n"
    )
    (tmp_path / "tests.yaml").write_text(
        "roles: [base]\nusers: {bob: {roles: [dev]}}\nresources: {nodes: {db1: {labels: {env: y}}}}\n"
        "tests: [{user: bob, logins: [root]}]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_offline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access", "diff", "-f", "new.yaml", "--base=base", "--with=users.yaml"]) == 2
    assert capsys.readouterr().out.startswith("+ alice ssh root@web1 (role dev:")
    assert main(["access", "diff", "-f", "new.yaml", "--with=tests.yaml"]) == 2
    assert capsys.readouterr().out.startswith("+ bob ssh root@db1 (role dev:")
    assert main(["access", "diff", "-f", "base", "--base=base", "--with=users.yaml"]) == 0
    assert main(["access", "diff", "-f", "users.yaml", "--base=base"]) == 2
    assert "lists are compared: node" in capsys.readouterr().err


def test_offline_files_that_are_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "twice.yaml").write_text((ROLE % "a") + "---\n" + (ROLE % "b"))
    (folder / "bad.yaml").write_text(ROLE % "'^($'")
    (folder / "lock.yaml").write_text("{kind: lock, metadata: {name: x}, spec: {target: {user: x}}}")
    for words, said in (
        (("-f", "twice.yaml", "--base=base"), "role 'dev' is also defined in twice.yaml"),
        (("-f", "bad.yaml", "--base=base"), "bad.yaml: role/dev: "),
        (("-f", "lock.yaml", "--base=base"), "no roles, users and access lists"),
        (("-f", "new.yaml", "--base=base", "--with=tests.yaml"), "is also defined in"),
        (("-f", "new.yaml", "--base=nowhere"), "nowhere"),
    ):
        assert main(["access", "diff", *words]) == 1, words
        assert said in capsys.readouterr().err


def test_long_answers_are_cut_and_hours_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = "\n---\n".join(
        f"{{kind: user, version: v2, metadata: {{name: u{n:03}}}, spec: {{roles: [dev]}}}}"
        for n in range(300)
    )
    (folder / "many.yaml").write_text(users)
    (folder / "new.yaml").write_text(
        "kind: role\nversion: v7\nmetadata: {name: dev}\n"
        "spec: {allow: {when: [{days: [mon]}], logins: [root], node_labels: {env: dev}}}\n"
    )
    words = ["access", "diff", "-f", "new.yaml", "--base=base", "--with=many.yaml", "--at=2026-01-05"]
    assert main(words) == 2
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 202
    assert "... and 100 more: --user, --kind" in found.out and "300 changes for 300 users" in found.out
    assert "decided for 2026-01-05T00:00:00Z and from an address that is not known" in found.err
