"""A64: names, labels, messages and events from outside reach a terminal only as visible text."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pkgs.common.api.audit import AuditVerdict
from pkgs.common.api.recordings import RecordingInfo
from pkgs.common.api.tunnel import UserDialReply
from pkgs.common.errors import DeniedError
from pkgs.common.output.errors import fail
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Node, Token, TokenSpec, User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from tests.integration.clients_kit import ROOT, SESSION, FakeCluster, node, stored

PAYLOADS = (
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;title\x1b\\",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "\x90q\x9c",
    "a\rb\nERROR: fake",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u2028line",
    "\x7f\x08\x08",
    "[link=file:///etc/passwd]x[/link]",
    "[@click=app.quit]y[/]",
    "{{7*7}}%n%s",
)
HOSTILE = "n" + "".join(PAYLOADS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="tc-") as folder, FakeCluster(Path(folder)) as made:
        bad = node(HOSTILE, **{HOSTILE: HOSTILE, "env": HOSTILE})
        made.resources = [
            bad,
            node("ok", env="demo"),
            Node(metadata=Metadata(name=HOSTILE), spec=bad.spec),
            User(metadata=Metadata(name=HOSTILE), spec=UserSpec(roles=[HOSTILE])),
            Role(metadata=Metadata(name=HOSTILE, description=HOSTILE)),
            Token(metadata=Metadata(name=HOSTILE, labels={"k": HOSTILE}), spec=TokenSpec(roles=[HOSTILE])),
            Lock(
                metadata=Metadata(name=HOSTILE),
                spec=LockSpec(target=LockTarget(user=HOSTILE), message=HOSTILE),
            ),
        ]
        made.events = [stored(1, HOSTILE, user=HOSTILE, addr=HOSTILE, roles=[HOSTILE])]
        made.verdict = AuditVerdict(ok=False, events=1, first_bad_seq=1, problem=HOSTILE)
        made.recordings = [
            RecordingInfo(
                session_id=SESSION, kind=HOSTILE, participants=[HOSTILE], hostname=HOSTILE, login=HOSTILE,
                started=1.0, ended=2.0, size=3, command=HOSTILE,
            )
        ]  # fmt: skip
        taken = bytearray()
        meta = SessionMeta(
            session_id=SESSION, cluster_name="demo", user=HOSTILE, login=HOSTILE, host_id="x",
            hostname=HOSTILE, started=1.0, command=HOSTILE,
        )  # fmt: skip
        writer = RecordingWriter(BytesSink(taken.extend), meta, now=0.0)
        writer.output(HOSTILE.encode() + b"\xff\xfe\x1b[31mred\x1b[0m\n", 0.1)
        writer.mark("join", HOSTILE, 0.2)
        writer.finish(0.3, ended=2.0)
        made.recording = bytes(taken)
        yield made


def is_inert(data: bytes, *, terminal: bool = False) -> bool:
    text = data.decode()
    if terminal:
        text = text.replace("\r\n", "\n")
    return all(char.isprintable() or char == "\n" for char in text)


LISTINGS = [
    ("tsh", "ls"),
    ("tsh", "ls", "-v"),
    ("tsh", "ls", "-R"),
    ("tsh", "ls", "--format=names"),
    ("tsh", "ls", "--format=json"),
    ("tsh", "ls", "--format=yaml"),
    ("tsh", "recordings", "ls"),
    ("tsh", "recordings", "ls", "--format=json"),
    ("tsh", "recordings", "ls", "--format=yaml"),
    ("tsh", "play", SESSION),
    ("tsh", "play", SESSION, "--format=text"),
    ("tsh", "play", SESSION, "--format=json"),
    ("tsh", "play", SESSION, "--format=yaml"),
    ("tsh", "play", SESSION, "--format=asciicast"),
    ("tsh", "recordings", "export", SESSION),
    ("tctl", "nodes", "ls"),
    ("tctl", "nodes", "ls", "--format=yaml"),
    ("tctl", "get", "nodes", "--format=text"),
    ("tctl", "get", "nodes", "--format=json"),
    ("tctl", "get", "users,roles,locks,nodes"),
    ("tctl", "get", "roles", "--format=text"),
    ("tctl", "get", "tokens", "--format=text"),
    ("tctl", "get", "locks", "--format=text"),
    ("tctl", "users", "ls"),
    ("tctl", "tokens", "ls"),
    ("tctl", "tokens", "ls", "--with-secrets"),
    ("tctl", "tokens", "ls", "--format=text", "--with-secrets"),
    ("tctl", "audit", "ls"),
    ("tctl", "audit", "ls", "--format=json"),
    ("tctl", "audit", "ls", "--format=yaml"),
    ("tctl", "audit", "tail"),
    ("tctl", "audit", "tail", "--format=json"),
    ("tctl", "recordings", "ls"),
]


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_a64_nothing_listed_acts_on_a_terminal(cluster: FakeCluster, words: tuple[str, ...]) -> None:
    done = cluster.run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert is_inert(done.stdout)
    assert b"n" in done.stdout


@pytest.mark.parametrize("words", [("ls",), ("ls", "--format=json"), ("recordings", "ls")], ids=" ".join)
def test_a64_nor_when_it_is_a_terminal(cluster: FakeCluster, words: tuple[str, ...]) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [str(ROOT / "bin" / "tsh"), *words], env=cluster.env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        shown = bytearray()
        with process:
            while True:
                try:
                    data = screen.read(65536)
                except OSError:
                    break
                if not data:
                    break
                shown += data
            assert process.wait(30) == 0
    assert shown
    assert is_inert(bytes(shown), terminal=True)


def test_a64_markup_is_shown_and_not_read(cluster: FakeCluster) -> None:
    out = cluster.run("tsh", "ls", "--format=names").stdout.decode()
    assert "[link=file:///etc/passwd]x[/link]" in out
    assert "[@click=app.quit]y[/]" in out
    assert r"\x1b]52;c;ZXZpbA==\x07" in out


def test_a64_programs_still_get_the_true_value(cluster: FakeCluster) -> None:
    for words in (("tsh", "ls", "--format=json"), ("tctl", "get", "nodes", "--format=json")):
        names = [n["spec"]["hostname"] for n in json.loads(cluster.run(*words).stdout)]
        assert HOSTILE in names
    documents = list(yaml.safe_load_all(cluster.run("tctl", "get", "nodes").stdout))
    assert HOSTILE in [d["spec"]["hostname"] for d in documents]


def test_a64_a_listing_has_one_line_for_each_node(cluster: FakeCluster) -> None:
    assert len(cluster.run("tsh", "ls").stdout.decode().split("\n")) == 2 + 3 + 1


def test_a64_messages_of_a_server_are_inert(cluster: FakeCluster) -> None:
    cluster.error = DeniedError(HOSTILE, hint=HOSTILE)
    cluster.reply = UserDialReply(error=HOSTILE, hint=HOSTILE)
    try:
        for words in (
            ("tsh", "ls"),
            ("tsh", "proxy", "ssh", "x"),
            ("tctl", "get", "nodes"),
            ("tctl", "status"),
        ):
            done = cluster.run(*words)
            assert done.returncode == 1
            assert done.stderr.startswith(b"ERROR: ")
            assert is_inert(done.stderr)
            # A line that a peer made up never starts like one of ours.
            assert not re.search(rb"\nERROR", done.stderr)
    finally:
        cluster.error, cluster.reply = None, UserDialReply()


def test_a64_the_verdict_on_the_audit_log_is_inert(cluster: FakeCluster) -> None:
    done = cluster.run("tctl", "audit", "verify")
    assert done.returncode == 1
    assert is_inert(done.stderr)


def test_a64_what_the_user_typed_wrongly_is_echoed_inert(cluster: FakeCluster) -> None:
    for words in (
        ("tsh", HOSTILE),
        ("tsh", "ls", f"--{HOSTILE}"),
        ("tsh", "ls", HOSTILE.replace("=", "")),
        ("tctl", "get", HOSTILE),
    ):
        done = cluster.run(*words)
        assert done.returncode == 2
        assert is_inert(done.stderr)


def test_a64_an_error_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    fail(HOSTILE * 10_000)
    assert is_inert(capsys.readouterr().err.encode())
