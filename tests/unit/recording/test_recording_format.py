import itertools
import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.recording import limits
from pkgs.common.recording.ids import is_session_id, require_session_id
from pkgs.common.recording.model import Damage, ExecResult, Footer, Mark, Output, Resize
from pkgs.common.recording.reader import decode_chunks, read_items, summarise
from pkgs.common.recording.writer import BytesSink, FileSink, RecordingWriter
from tests.harness.examples import examples

from .recordings import SID, items, meta, written


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / f"{SID}.rec"
    writer = RecordingWriter(FileSink(path), meta(command="uptime"), now=5.0)
    writer.output(b"\xffhello\r\n", 5.25)
    writer.resize(120, 40, 6.0)
    writer.mark("join", "nils", 6.5)
    writer.exec_result(3, "", 7.0)
    footer = writer.finish(7.0, ended=1_790_000_002.0)
    with path.open("rb") as file:
        found = list(read_items(file))
    assert found == [
        meta(command="uptime"),
        Output(250, b"\xffhello\r\n"),
        Resize(1000, 120, 40),
        Mark(1500, "join", "nils"),
        ExecResult(2000, 3, ""),
        footer,
    ]
    assert (footer.outputs, footer.output_bytes, footer.frames, footer.exit_status) == (1, 8, 2, 3)
    assert path.stat().st_mode & 0o777 == 0o600
    assert summarise(found).complete


def test_a_frame_is_written_after_a_second_or_when_full():
    frames: list[bytes] = []
    writer = RecordingWriter(BytesSink(frames.append), meta(), now=0.0)
    assert len(frames) == 1 and writer.due_at is None
    writer.output(b"x", 10.0)
    assert writer.due_at == 11.0
    writer.flush(10.9)
    assert len(frames) == 1
    writer.flush(11.0)
    assert len(frames) == 2 and writer.due_at is None
    writer.output(os.urandom(200_000), 12.0)
    assert len(frames) == 8
    writer.flush(12.0, force=True)
    assert len(frames) == 9
    assert max(map(len, frames)) < limits.MAX_STORED_FRAME


def test_the_writer_bounds_text_and_sizes():
    out = bytearray()
    writer = RecordingWriter(
        BytesSink(out.extend),
        meta(command="é" * 10**6, participants=["p" * 10**4] * 1000, cols=10**6, rows=0),
        now=0.0,
    )
    for _ in range(3000):
        writer.mark("\U0001f600" * 5000, "\U0001f600" * 5000, 0.0)
        break
    writer.resize(10**9, 10**9, 0.0)
    writer.output(b"y" * 100_000, -3.0)
    writer.finish(-5.0, ended=0.0)
    found = items(bytes(out))
    assert summarise(found).complete
    assert found[0].cols == 1000 and found[0].rows == 1
    assert Resize(0, 1000, 1000) in found
    assert [o.ms for o in found if isinstance(o, Output)] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="finished"):
        writer.output(b"z", 0.0)


def test_many_small_marks_stay_within_a_frame():
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), meta(), now=0.0)
    for _ in range(200):
        writer.mark("\U0001f600" * 2000, "\U0001f600" * 2000, 0.0)
    for _ in range(20_000):
        writer.output(b"", 0.0)
        writer.output(b".", 0.0)
    writer.finish(1.0, ended=1.0)
    assert summarise(items(bytes(out))).complete


def test_a_full_disk_leaves_a_file_that_ends_with_a_whole_frame(tmp_path, monkeypatch):
    path = tmp_path / "r"
    sink = FileSink(path)
    writer = RecordingWriter(sink, meta(), now=0.0)
    writer.output(b"kept", 1.0)
    writer.flush(1.0, force=True)
    size = path.stat().st_size
    real = os.write
    calls = []

    def full(fd, data):
        calls.append(1)
        if len(calls) % 2:
            return real(fd, bytes(data)[:40])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer.output(b"lost", 2.0)
    with pytest.raises(UnavailableError, match="No space"):
        writer.flush(2.0, force=True)
    assert path.stat().st_size == size
    monkeypatch.undo()
    writer.output(b"again", 3.0)
    writer.finish(3.0, ended=3.0)
    with path.open("rb") as file:
        found = list(read_items(file))
    assert [o.data for o in found if isinstance(o, Output)] == [b"kept", b"again"]
    assert not [d for d in found if isinstance(d, Damage)]


def test_a_recording_is_never_written_over_another(tmp_path):
    (tmp_path / "r").write_bytes(b"")
    with pytest.raises(UnavailableError, match="exists"):
        FileSink(tmp_path / "r")


SCRIPT = [(n * 0.7, f"line {n}\r\n".encode() * 50) for n in range(20)]


def test_a_file_cut_at_any_byte_plays_to_its_last_whole_frame_and_says_so():
    raw = written(SCRIPT)
    whole = [i for i in items(raw) if isinstance(i, Output)]
    longest = 0
    for cut in range(0, len(raw), 7):
        found = items(raw[:cut])
        assert isinstance(found[-1], Damage) and found[-1].cut
        outputs = [i for i in found if isinstance(i, Output)]
        assert outputs == whole[: len(outputs)]
        assert len(outputs) >= longest
        longest = len(outputs)
        assert not [i for i in found[:-1] if isinstance(i, Damage)]
    assert longest == len(whole)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_chunking_does_not_matter(data):
    raw = written(SCRIPT)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    edges = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    assert list(decode_chunks(pieces)) == items(raw)


def test_the_head_stands_for_the_whole_recording():
    def head(text: bytes) -> str:
        writer = RecordingWriter(BytesSink(lambda data: None), meta(), now=0.0)
        writer.output(text, 1.0)
        writer.finish(1.0, ended=1.0)
        return writer.head

    assert head(b"a") == head(b"a") != head(b"b")


@pytest.mark.parametrize("text", [SID, "00000000-0000-0000-0000-000000000000"])
def test_session_ids(text):
    assert is_session_id(text)
    assert require_session_id(text) == text


def test_a_session_id_is_demanded_by_the_writer():
    with pytest.raises(InputError):
        RecordingWriter(BytesSink(lambda data: None), meta(session_id="../x"), now=0.0)


def test_every_item_is_plain_data():
    for item in items(written(SCRIPT)):
        assert msgspec.json.encode(item)
    assert isinstance(items(written(SCRIPT))[-1], Footer)
