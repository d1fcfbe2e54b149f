"""`tsh play` at a terminal, and of files and damaged recordings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from tests.harness.cluster import run
from tests.integration.clients_kit import ROOT, SESSION, FakeCluster
from tests.integration.terminal import Terminal

TSH = str(ROOT / "bin" / "tsh")


def recording() -> bytes:
    """`one` at the start, `two` a minute later, `three` another minute later."""
    taken = bytearray()
    meta = SessionMeta(
        session_id=SESSION,
        cluster_name="demo",
        user="alice",
        login="root",
        host_id="x",
        hostname="h",
        started=1.0,
    )
    writer = RecordingWriter(BytesSink(taken.extend), meta, now=0.0)
    for at, text in ((0.0, b"\x1b[32mone\x1b[0m\r\n"), (60.0, b"two\r\n"), (120.0, b"three\r\n")):
        writer.output(text, at)
    writer.exec_result(0, "", 121.0)
    writer.finish(121.0, ended=122.0)
    return bytes(taken)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as made:
        made.recording = recording()
        yield made


def test_keys_pause_seek_and_end(cluster: FakeCluster) -> None:
    screen = Terminal([TSH, "play", SESSION], {**cluster.env, "TERM": "xterm"})
    screen.expect("\x1b[32mone")
    screen.type(" ", end="")
    screen.type("\x1b[C" * 1, end="")
    for _ in range(6):
        screen.type("\x1b[C", end="")
    screen.expect("two")
    assert "three" not in screen.shown
    screen.type("\x1b[D\x1b[D", end="")
    screen.expect("\x1bc")
    screen.type("q", end="")
    assert screen.end() == 0
    # Whatever the session left switched on is switched off again.
    assert "\x1b[?1049l" in screen.shown.rpartition("one")[2]


def test_pauses_are_skipped_on_request(cluster: FakeCluster) -> None:
    screen = Terminal([TSH, "play", SESSION, "--skip-idle-time", "--speed=8x"], cluster.env)
    screen.expect("three", deadline_s=15)
    assert screen.end() == 0


def test_a_file_plays_without_a_cluster(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "session.rec"
    path.write_bytes(recording())
    env = {**cluster.env, "TELEPORT_HOME": str(tmp_path / "none")}
    assert run(TSH, "play", path, env=env).ok().out == "one\ntwo\nthree\n"
    kinds = [
        json.loads(line)["event"]
        for line in run(TSH, "play", path, "-f", "json", env=env).ok().out.splitlines()
    ]
    assert kinds == ["session.start", "print", "print", "print", "exec", "session.end"]


def test_a_cut_recording_plays_to_its_last_frame(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "cut.rec"
    whole = recording()
    path.write_bytes(whole[: len(whole) - 20])
    done = run(TSH, "play", path, env=cluster.env)
    assert done.code == 0
    assert "one\ntwo" in done.out


@pytest.mark.needs("asciinema")
def test_asciinema_takes_the_export(cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "x.cast"
    assert cluster.run("tsh", "recordings", "export", SESSION, f"--out={out}").returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    again = cluster.run("tsh", "recordings", "export", SESSION, f"--out={out}")
    assert again.returncode == 1 and b"--overwrite" in again.stderr
    screen = Terminal(["asciinema", "cat", str(out)], {**cluster.env, "LC_ALL": "C.UTF-8"})
    assert screen.end() == 0
    assert "two" in screen.shown


def test_what_is_neither_a_session_nor_a_file(cluster: FakeCluster) -> None:
    for word in ("nope", "../../etc/x", SESSION.replace("1", "9"), "x" * 3000):
        done = cluster.run("tsh", "play", word)
        assert done.returncode in (1, 2)
        assert b"Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_administrator_downloads_a_file_for_tsh_play(cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "a.rec"
    assert cluster.run("tctl", "recordings", "download", SESSION, f"--out={out}").returncode == 0
    assert out.read_bytes() == cluster.recording
    assert cluster.run("tctl", "recordings", "download", "../x", f"--out={tmp_path}/b").returncode == 2
    missing = SESSION.replace("1", "9")
    assert cluster.run("tctl", "recordings", "download", missing, f"--out={tmp_path}/b").returncode == 1
    for folder in (tmp_path, tmp_path / "none" / "b"):
        refused = cluster.run("tctl", "recordings", "download", SESSION, f"--out={folder}", "--overwrite")
        assert refused.returncode == 2
        assert str(folder).encode() in refused.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.rec"]
    assert out.stat().st_mode & 0o077 == 0
