"""Hostile recordings and session ids: attacks A60 and A61, and A64 where a recording is shown."""

import json
import struct
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError
from pkgs.common.recording import frame, limits
from pkgs.common.recording.frame import FrameType
from pkgs.common.recording.ids import is_session_id, require_session_id
from pkgs.common.recording.model import Damage, Footer, Mark, Output, Resize, SessionMeta
from pkgs.common.recording.reader import decode_chunks, summarise
from pkgs.common.recording.showing.export import to_asciicast, to_json_lines, to_text
from pkgs.common.recording.showing.player import Finished, Player, Wait
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from tests.harness.examples import examples

SID = "4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77"
META = SessionMeta(
    session_id=SID,
    cluster_name="alpha",
    user="mira",
    login="root",
    host_id=SID,
    hostname="build-1",
    started=1.79e9,
)


def good(count: int = 12) -> bytes:
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), META, now=0.0)
    for number in range(count):
        writer.output(f"line {number}\r\n".encode() * 20, float(number))
        writer.flush(float(number), force=True)
    writer.finish(float(count), ended=1.79e9 + count)
    return bytes(out)


def crafted(*contents: tuple[int, object]) -> bytes:
    """A recording with right checksums around whatever content."""
    out, chain = frame.HEADER, frame.GENESIS
    for seq, (kind, content) in enumerate(contents):
        raw = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
        data, chain = frame.pack(FrameType(kind), seq, raw, chain)
        out += data
    return out


def read(raw: bytes) -> list:
    return list(decode_chunks(raw[i : i + 4096] for i in range(0, len(raw), 4096)))


def damages(found: list) -> list[Damage]:
    return [item for item in found if isinstance(item, Damage)]


def everything(raw: bytes) -> None:
    """Every consumer goes through; none may raise."""
    found = read(raw)
    summarise(found)
    for line in to_asciicast(found):
        json.loads(line)
    for line in to_json_lines(found):
        json.loads(line)
    list(to_text(found))
    model, now = Player(lambda _: iter(found), skip_idle_ms=1), 0.0
    for _ in range(len(found) * 3 + 10):
        action = model.step(now)
        if isinstance(action, Finished):
            return
        now += action.seconds if isinstance(action, Wait) else 0.0
    raise AssertionError("the player never finished")


@pytest.mark.parametrize(
    "text",
    [
        "../../x",
        "",
        "x" * 1_000_000,
        SID.upper(),
        SID + "\n",
        SID + "/",
        SID.replace("-", ""),
        "{" + SID + "}",
        "\uff14f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77",
        SID[:-1] + "\x00",
        "4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b7'",
        "\x1b]0;x\x07",
    ],
)
def test_a60_only_a_uuid_is_a_session_id(text):
    assert not is_session_id(text)
    with pytest.raises(InputError) as caught:
        require_session_id(text)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_a61_truncated():
    raw = good()
    for cut in range(0, len(raw), 97):
        found = read(raw[:cut])
        assert found[-1].cut
        everything(raw[:cut])


@pytest.mark.fuzz
@settings(max_examples=examples(80), deadline=None)
@given(st.integers(0, len(good()) - 1), st.integers(0, 7))
def test_a61_one_flipped_bit_is_reported_and_costs_at_most_one_frame(at, bit):
    raw = bytearray(good())
    raw[at] ^= 1 << bit
    found = read(bytes(raw))
    assert damages(found)
    assert sum(isinstance(item, Output) for item in found) >= 11
    everything(bytes(raw))


@pytest.mark.fuzz
@settings(max_examples=examples(60), deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_a61_garbage_inside_is_skipped(garbage, at):
    raw = good()
    at = min(at, len(raw))
    everything(raw[:at] + garbage + raw[at:])
    everything(garbage)


def test_a61_swapped_dropped_and_repeated_frames_are_noticed():
    whole = good(4)
    starts = [i for i in range(len(whole)) if whole.startswith(frame.MARKER, i)]
    pieces = [whole[a:b] for a, b in zip(starts, [*starts[1:], len(whole)], strict=True)]
    head = whole[: starts[0]]
    swapped = head + b"".join([pieces[0], pieces[2], pieces[1], *pieces[3:]])
    dropped = head + b"".join([*pieces[:2], *pieces[3:]])
    repeated = head + b"".join([*pieces[:2], pieces[1], *pieces[2:]])
    for raw in (swapped, dropped, repeated):
        assert damages(read(raw))
        assert isinstance(read(raw)[-1], Footer)
    assert "missing" in damages(read(dropped))[0].problem


def test_a61_an_edited_frame_with_new_checksums_breaks_the_chain():
    first = crafted((1, META), (2, [Output(1, b"rm -rf /")]), (2, [Output(2, b"x")]))
    edited = crafted((1, META), (2, [Output(1, b"ls -la /")]), (2, [Output(2, b"x")]))
    last = first[first.rfind(frame.MARKER) :]
    raw = edited[: edited.rfind(frame.MARKER)] + last
    assert any("does not follow" in d.problem for d in damages(read(raw)))


def test_a61_zip_bomb_costs_no_memory():
    bomb = zlib.compress(bytes(200_000_000), 9)
    assert len(bomb) < limits.MAX_STORED_FRAME
    chain = frame.link(frame.GENESIS, FrameType.BATCH, 0, bomb)
    for promised in (1000, limits.MAX_RAW_FRAME, limits.MAX_RAW_FRAME + 1, 200_000_000):
        head = frame._HEAD.pack(frame.MARKER, 2, 0, len(bomb), promised, chain, zlib.crc32(bomb))
        raw = frame.HEADER + head + struct.pack(">I", zlib.crc32(head)) + bomb
        tracemalloc.start()
        found = read(raw)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert damages(found)
        assert peak < 16 * 1024 * 1024


def test_a61_a_giant_event_and_a_giant_frame_are_refused():
    big = msgspec.msgpack.encode([Output(0, bytes(limits.MAX_RAW_FRAME + 1))])
    assert damages(read(crafted((1, META), (2, big), (2, [Output(1, b"after")]))))
    assert read(crafted((1, META), (2, big), (2, [Output(1, b"after")])))[-2] == Output(1, b"after")
    head = frame._HEAD.pack(frame.MARKER, 2, 1, 2**32 - 1, 2**32 - 1, bytes(32), 0)
    raw = crafted((1, META)) + head + struct.pack(">I", zlib.crc32(head)) + b"x" * 1000
    assert any("no frame" in d.problem for d in damages(read(raw)))


def test_a61_a_million_tiny_events_in_one_frame_are_refused():
    tiny = b"\xdd" + struct.pack(">I", 40_000) + b"\x93\xa1o\x00\xc4\x00" * 40_000
    assert len(tiny) < limits.MAX_RAW_FRAME
    found = read(crafted((1, META), (2, tiny)))
    assert not [item for item in found if isinstance(item, Output)]
    assert damages(found)


def test_a61_absurd_sizes_and_times_are_brought_within_limits():
    events = [Resize(-5, 10**6, -(10**6)), Output(2**60, b"late"), Output(3, b"early"), Mark(4, "k", "t")]
    found = read(crafted((1, msgspec.structs.replace(META, cols=10**6, started=float("inf"))), (2, events)))
    assert (found[0].cols, found[0].rows, found[0].started) == (1000, 25, 0.0)
    assert found[1] == Resize(0, 1000, 1)
    assert found[2].ms == found[3].ms == limits.MAX_MS
    everything(
        crafted((1, META), (2, events), (3, Footer(ms=-1, ended=1e300, outputs=1, output_bytes=1, frames=1)))
    )


def test_a61_invalid_utf8_and_wrong_types_go_on():
    everything(crafted((1, META), (2, [Output(0, b"\xff\xfe\xc3")])))
    for content in (
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"a": 1}),
        b"\x91" * 50_000,
        msgspec.msgpack.encode([["q", 1]]),
    ):
        for kind in (1, 2, 3):
            raw = crafted((1, META), (kind, content), (2, [Output(1, b"after")]))
            assert Output(1, b"after") in read(raw)
            everything(raw)


def test_a61_metadata_with_a_path_for_an_id_is_not_believed():
    found = read(crafted((1, msgspec.structs.replace(META, session_id="../../x"))))
    assert not [item for item in found if isinstance(item, SessionMeta)]


def test_a61_another_version_is_refused_and_the_reports_are_bounded():
    opening = frame.MAGIC + (9).to_bytes(2, "big") + bytes(2)
    raw = opening + struct.pack(">I", zlib.crc32(opening)) + good()[16:]
    found = read(raw)
    assert len(found) == 1 and "version 9" in found[0].problem
    noise = b"".join(frame.pack(FrameType.BATCH, n, b"\xc1", bytes(32))[0] for n in range(5000))
    assert len(damages(read(frame.HEADER + noise))) <= limits.MAX_DAMAGE_REPORTS + 1


def test_a61_text_that_is_no_utf8_is_damage_like_any_other():
    meta = msgspec.msgpack.encode(META).replace(b"mira", b"\xff\xfe\xff\xfe")
    mark = msgspec.msgpack.encode([Mark(1, "note", "text")]).replace(b"text", b"\xff\xfe\xff\xfe")
    for kind, content in ((FrameType.META, meta), (FrameType.BATCH, mark)):
        (damage, cut) = damages(read(crafted((kind, content))))
        assert "does not hold what its type says" in damage.problem
        assert cut.cut


def test_a64_nothing_but_a_tty_gets_a_recording_raw():
    evil = b"\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\xc2\x9b31m[link=http://x]y[/link]"
    raw = crafted(
        (1, msgspec.structs.replace(META, user="a\x1b]0;t\x07")),
        (2, [Output(0, evil), Mark(0, "n\x1b", "\x1b[5n")]),
    )
    text = "".join(to_text(read(raw)))
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0)]
    for line in to_asciicast(read(raw)):
        if line.startswith(b"{"):
            assert b"\\u001b" not in line
