"""Going to a moment of a long recording, and the page that a recording becomes."""

from __future__ import annotations

import html.parser
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.recording import seek
from pkgs.common.recording.model import Damage, Footer, Output, Resize, SessionMeta
from pkgs.common.recording.reader import decode_chunks, read_items
from pkgs.common.recording.seek import end_ms, items_near
from pkgs.common.recording.showing.html import to_html
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from tests.harness.examples import examples
from tests.unit.recording.recordings import meta, written

EVERY_S = 2.0
COUNT = 3000


def long_recording() -> bytes:
    """A line every two seconds that does not compress well, and one change of the terminal's size."""
    chosen = random.Random(4)
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), meta(), now=0.0)
    for number in range(COUNT):
        now = number * EVERY_S
        if number == 100:
            writer.resize(132, 43, now)
        writer.output(b"%06d " % number + chosen.randbytes(400) + b"\n", now)
        writer.flush(now + 1.0)
    writer.finish(COUNT * EVERY_S, ended=1_790_000_000.0 + COUNT * EVERY_S)
    return bytes(out)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("long") / "long.rec"
    made.write_bytes(long_recording())
    return made


@pytest.fixture(scope="module")
def whole(path: Path) -> list:
    with path.open("rb") as file:
        return list(read_items(file))


@settings(max_examples=examples(30))
@given(ms=st.floats(-10.0, COUNT * EVERY_S * 1000 + 10_000))
def test_a_moment_is_shown_from_what_lies_just_before_it(path: Path, whole: list, ms: float) -> None:
    with path.open("rb") as file:
        found = list(items_near(file, ms))
    assert isinstance(found[0], SessionMeta)
    assert isinstance(found[-1], Footer)
    assert not [item for item in found if isinstance(item, Damage)]
    outputs = [item for item in found if isinstance(item, Output)]
    everything = [item for item in whole if isinstance(item, Output)]
    without_gap = outputs == everything[len(everything) - len(outputs) :]
    assert without_gap, "the end of the recording"
    before = sum(len(item.data) for item in outputs if item.ms <= ms)
    of_all = sum(len(item.data) for item in everything if item.ms <= ms)
    assert before >= min(of_all, seek.WINDOW // 2), "and enough before the moment"
    assert before <= of_all


def test_the_terminals_size_is_known_wherever_reading_begins(path: Path) -> None:
    with path.open("rb") as file:
        found = list(items_near(file, COUNT * EVERY_S * 1000))
    sizes = [item for item in found if isinstance(item, Resize)]
    assert [(size.cols, size.rows) for size in sizes] == [(132, 43)]
    before = sum(len(i.data) for i in found[: found.index(sizes[0])] if isinstance(i, Output))
    assert before < seek.WINDOW / 4


def test_the_end_is_found(path: Path, tmp_path: Path) -> None:
    with path.open("rb") as file:
        assert end_ms(file) == COUNT * EVERY_S * 1000
    cut = tmp_path / "cut.rec"
    cut.write_bytes(path.read_bytes()[:-5000])
    with cut.open("rb") as file:
        assert COUNT * EVERY_S * 1000 - 60_000 < end_ms(file) < COUNT * EVERY_S * 1000
    for content in (b"", b"nothing at all", bytes(100_000)):
        cut.write_bytes(content)
        with cut.open("rb") as file:
            assert end_ms(file) == 0
            assert not [item for item in items_near(file, 5000.0) if isinstance(item, Output)]


@pytest.mark.fuzz
@settings(max_examples=examples(30))
@given(at=st.integers(0, 1_000_000), garbage=st.binary(min_size=1, max_size=3000), ms=st.floats(0, 6_000_000))
def test_a61_damage_does_not_keep_from_going_anywhere(
    path: Path, tmp_path_factory: pytest.TempPathFactory, at: int, garbage: bytes, ms: float
) -> None:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(garbage)] = garbage
    damaged = tmp_path_factory.mktemp("damaged") / "d.rec"
    damaged.write_bytes(raw)
    with damaged.open("rb") as file:
        found = list(items_near(file, ms))
        end_ms(file)
    damaged.unlink()
    assert [item for item in found if isinstance(item, Output)]


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a64_a_page_holds_the_words_and_nothing_that_acts() -> None:
    hostile = b"<script>alert(1)</script> \x1b]52;c;aGk=\x07<img src=x onerror=y>&amp;\r\n"
    raw = written([(0.0, b"plain\r\n"), (61.0, hostile)], command="<b>bold</b>", user="<u>mira")
    text = "".join(to_html(decode_chunks([raw])))
    page = _Page()
    page.feed(text)
    assert "<script>alert(1)</script> <img src=x onerror=y>&amp;" in page.text
    assert "<b>bold</b>" in page.text
    assert page.tags <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "dl",
        "dt",
        "dd",
        "hr",
        "p",
        "time",
        "span",
    }
    assert "\x1b" not in text
    assert "0:01:01" in text
    assert "default-src 'none'" in text


def test_a_page_says_what_happened_beside_the_output() -> None:
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), meta(), now=0.0)
    writer.mark("join", "noor joined", 1.0)
    writer.output(b"no end of line", 2.0)
    writer.exec_result(3, "", 3.0)
    writer.finish(3.0, ended=1.0)
    text = "".join(to_html(decode_chunks([bytes(out)])))
    assert "join: noor joined" in text
    assert "exit status 3" in text
    assert "no end of line" in text
