import base64
import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.recording.model import Damage, ExecResult, Mark, Output, Resize
from pkgs.common.recording.showing.export import to_asciicast, to_json_lines, to_text
from pkgs.common.recording.showing.plain import PlainText
from tests.harness.examples import examples

from .recordings import SID, items, meta, written

ITEMS = [
    meta(command="ls\x1b[2J"),
    Output(10, "grü".encode()[:3]),
    Output(1500, b"\xbc\xff\r\n"),
    Resize(1600, 9, 8),
]


def plain(*pieces: str) -> str:
    text = PlainText()
    return "".join(text.feed(piece) for piece in pieces) + text.finish()


def test_asciicast():
    header, *events = [json.loads(line) for line in to_asciicast([*ITEMS, Mark(1700, "join", "nils")])]
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)
    assert header["timestamp"] == 1_790_000_000
    assert header["env"] == {"TERM": "xterm-256color"}
    assert "\x1b" not in header["command"]
    assert events == [
        [0.01, "o", "gr"],
        [1.5, "o", "ü\ufffd\r\n"],
        [1.6, "r", "9x8"],
        [1.7, "m", "join: nils"],
    ]


def test_asciicast_without_metadata_still_has_a_header():
    lines = list(to_asciicast([Damage(offset=0, problem="no header"), Output(0, b"x"), Output(1, b"\xe2")]))
    assert json.loads(lines[0])["version"] == 2
    assert json.loads(lines[-1]) == [0.001, "o", "\ufffd"]
    assert len(list(to_asciicast([]))) == 1


@pytest.mark.needs("asciinema")
def test_the_real_asciinema_plays_it(tmp_path):
    path = tmp_path / "demo.cast"
    raw = written([(0.1, b"hello "), (1.3, "wörld\r\n".encode())])
    path.write_bytes(b"".join(to_asciicast(items(raw))))
    shown = subprocess.run(
        ["script", "-qec", f"asciinema cat {path}", "/dev/null"],
        capture_output=True,
        timeout=30,
        check=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "TERM": "xterm"},
    )
    assert "hello wörld" in shown.stdout.decode()


def test_text():
    raw = written(
        [(0.1, b"$ ls\r\n\x1b[01;34mdir\x1b[0m  file\r\n"), (0.2, b"$ exi\x08\x08\x08\x1b[Kexit\r\nbye")]
    )
    assert "".join(to_text(items(raw))) == "$ ls\ndir  file\n$ exit\nbye\n"


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a\x1b]52;c;QUJD\x07b"], "ab\n"),
        (["a\x1b", "]0;title\x1b", "\\b"], "ab\n"),
        (["a\x1bP1$r\x9cb"], "ab\n"),
        (["a\x9b31mb\x1b(Bc"], "abc\n"),
        (["10%\r20%\r100%\n"], "100%\n"),
        (["a\x1b[", "31", "mb"], "ab\n"),
        (["a\u202eb\u200bc\x7f\x00d"], "abcd\n"),
        (["a\tb\n"], "a       b\n"),
        (["x" * 5000], "x" * 4096 + "\n" + "x" * 904 + "\n"),
        (["\x1b]0;" + "h" * 9000 + "\nseen"], "h" * 810 + "\nseen\n"),
    ],
)
def test_plain_text(pieces, shown):
    assert plain(*pieces) == shown


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.sampled_from("\x1b\x07\x9b\x9d\x9c]P[\\0;mKJ\r\n\x08\tab\u202e"), max_size=40)
    )
)
def test_a64_no_sequence_survives_however_it_is_cut(pieces):
    shown = plain(*pieces)
    assert shown == plain("".join(pieces))
    assert not [c for c in shown if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e")]


def test_json_lines_keep_every_byte():
    lines = [json.loads(line) for line in to_json_lines([*ITEMS, ExecResult(1700, 3, "")])]
    assert lines[0]["event"] == "session.start" and lines[0]["sid"] == SID
    prints = [line for line in lines if line["event"] == "print"]
    assert b"".join(base64.b64decode(line["data"]) for line in prints) == "grü".encode() + b"\xff\r\n"
    assert [(p["offset"], p["ci"]) for p in prints] == [(0, 0), (3, 1)]
    assert lines[-1]["exitCode"] == "3"
    ended = [json.loads(line) for line in to_json_lines(items(written([(0, b"x")])))]
    assert ended[-1]["event"] == "session.end"
