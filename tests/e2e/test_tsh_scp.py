"""`tsh scp`: what it copies, what it goes on with, and servers that would write elsewhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.harness import hostile_sftp
from tests.harness.cluster import BIN, OS_USER, Cluster, Person, run

HOST = f"{OS_USER}@demo-node"


def test_folders_times_several_sources_and_globs(alice: Person, tmp_path: Path) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    (source / "sub").mkdir(parents=True)
    for name in ("one.txt", "two.txt", "sub/three", "with space"):
        (source / name).write_text(name)
        os.utime(source / name, (1_500_000_000, 1_500_000_000))
    alice.tsh("scp", "-r", "-p", "-q", str(source), f"{HOST}:{there}").ok()
    assert (there / "sub" / "three").stat().st_mtime == 1_500_000_000
    back.mkdir()
    alice.tsh("scp", "-q", f"{HOST}:{there}/*.txt", f"{HOST}:{there}/with space", str(back)).ok()
    assert sorted(path.name for path in back.iterdir()) == ["one.txt", "two.txt", "with space"]
    alice.tsh("scp", "-q", f"{HOST}:{there}/one.txt", f"{HOST}:{there}/copied").ok()
    assert (there / "copied").read_text() == "one.txt"


def test_a_broken_copy_is_gone_on_with_both_ways(alice: Person, tmp_path: Path) -> None:
    whole = tmp_path / "whole file"
    whole.write_bytes(os.urandom(5_000_000))
    part = tmp_path / "part"
    for source, target in ((str(whole), f"{HOST}:{part}"), (f"{HOST}:{whole}", str(part))):
        part.write_bytes(whole.read_bytes()[:3_000_001])
        before = part.stat().st_ino
        alice.tsh("scp", "--continue", "-p", source, target).ok()
        assert part.read_bytes() == whole.read_bytes()
        assert (part.stat().st_ino, part.stat().st_mtime) == (before, int(whole.stat().st_mtime))
        part.write_bytes(b"something else")
        refused = alice.tsh("scp", "--continue", source, target)
        assert refused.code == 1
        assert "is not the beginning" in refused.err
        assert part.read_bytes() == b"something else"
    assert alice.tsh("scp", "--continue", "-r", str(tmp_path), f"{HOST}:/tmp/x").code == 2


def test_a56_a_hostile_server_writes_only_where_it_was_asked_to(cluster: Cluster, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    target = outside / "target"
    target.mkdir(parents=True)
    command = f"exec {sys.executable} {hostile_sftp.__file__} {outside}"
    role = {
        "kind": "role", "version": "v8", "metadata": {"name": "hostile"},
        "spec": {
            "options": {"force_command": command},
            "allow": {"logins": [OS_USER], "node_labels": {"*": "*"}},
        },
    }  # fmt: skip
    (tmp_path / "role.json").write_text(json.dumps(role))
    cluster.tctl("create", "-f", str(tmp_path / "role.json")).ok()
    eve = cluster.login("eve", roles="hostile")
    done = eve.tsh("scp", "-r", f"{HOST}:dir", str(target))
    assert {str(path.relative_to(outside)) for path in outside.rglob("*")} <= {
        "target", "target/dir", "target/dir/good",
    }, done.err  # fmt: skip
    assert done.code != 0
    assert "suspect" in done.err  # OpenSSH's word: it saw the names
    assert not (tmp_path / "escaped").exists()


@pytest.mark.needs("script")
def test_progress_is_shown_on_a_terminal_only(alice: Person, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_000_000))
    quiet = alice.tsh("scp", str(source), f"{HOST}:{tmp_path}/far").ok()
    assert (quiet.out, quiet.err) == ("", "")
    inner = f"{BIN}/tsh scp {source} {HOST}:{tmp_path}/far"
    shown = run("script", "-qec", inner, "/dev/null", env=alice.env).ok()
    assert "100%" in shown.out
