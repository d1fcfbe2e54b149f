"""The container of encrypted recordings: what it keeps, what damage costs, what hostile bytes do (A61)."""

from __future__ import annotations

import msgspec
import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError, TrustError, UnavailableError
from pkgs.common.recording import frame
from pkgs.common.recording.encrypted import limits
from pkgs.common.recording.encrypted.keys import (
    AgeKey,
    WrappedKey,
    check_public_key,
    encode_wrapped,
    new_private_key,
    unwrap,
    wrap_new,
)
from pkgs.common.recording.encrypted.reading import GAP, Decryptor, decrypted, looks_encrypted, recipients_of
from pkgs.common.recording.encrypted.records import HEAD_SIZE, MARKER, data_record, key_record, parse_head
from pkgs.common.recording.encrypted.writing import RecordingCipher
from pkgs.common.recording.model import Damage, Output
from pkgs.common.recording.writer import BytesSink, RecordingWriter
from tests.unit.recording.recordings import SID, items, meta, written

KEY = AgeKey(new_private_key())
OTHER_SID = "5f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b78"
PLAIN = written([(float(at), f"line {at} of the session\r\n".encode() * 30) for at in range(40)])


def by_key(wrapped: WrappedKey) -> bytes:
    return KEY.open(wrapped.envelope)


def pieces_of(plain: bytes = PLAIN, sid: str = SID, keys: tuple[str, ...] = (KEY.public_key,)) -> list[bytes]:
    """What goes to the disk, write for write."""
    pieces: list[bytes] = []
    sink = RecordingCipher(sid, keys).around(BytesSink(pieces.append))
    at, heads = 0, [i for i in range(len(plain)) if plain.startswith(frame.MARKER, i)]
    for end in [*heads[1:], len(plain)]:
        sink.write(plain[at:end])
        at = end
    return pieces


def opened(raw: bytes, sid: str = SID, chunk: int = 1000) -> bytes:
    return b"".join(decrypted((raw[i : i + chunk] for i in range(0, len(raw), chunk)), by_key, sid))


PIECES = pieces_of()
RAW = b"".join(PIECES)
_, WRAPPED = wrap_new(SID, [KEY.public_key])


@pytest.mark.parametrize("chunk", [1, 13, 100_000])
def test_what_is_opened_is_what_was_written(chunk: int) -> None:
    assert opened(RAW, chunk=chunk) == PLAIN
    assert opened(PLAIN, chunk=chunk) == PLAIN, "a recording in the clear passes through"


def test_nothing_of_it_stands_in_the_clear() -> None:
    for word in (b"line", b"mira", b"build-1", b"deploy", SID.encode(), frame.MARKER):
        assert word not in RAW
    (damage,) = [item for item in items(RAW) if isinstance(item, Damage)]
    assert "encrypted" in damage.problem


def test_age_opens_the_envelope() -> None:
    """Whoever has the private key needs nothing of ours to get at a recording's key."""
    private = new_private_key()
    key, wrapped = wrap_new(SID, [KEY.public_key, AgeKey(private).public_key])
    assert wrapped.envelope.startswith(b"age-encryption.org/v1\n-> X25519 ")
    content = pyrage.decrypt(wrapped.envelope, [pyrage.x25519.Identity.from_str(private)])
    assert msgspec.msgpack.decode(content) == [SID, key.raw]


def test_a_crash_leaves_all_whole_frames() -> None:
    pieces = pieces_of()
    raw = b"".join(pieces)
    starts = [at for at in range(len(PLAIN)) if PLAIN.startswith(frame.MARKER, at)]
    for whole in (1, 5, len(pieces) - 1):
        end = sum(map(len, pieces[:whole]))
        for cut in (end, end + 1, end + len(pieces[whole]) - 1):
            plain = opened(raw[:cut])
            assert plain == PLAIN[: starts[whole]]
            (damage,) = [item for item in items(plain) if isinstance(item, Damage)]
            assert damage.cut


def test_a61_tampered_swapped_dropped_and_doubled_records_are_told() -> None:
    pieces = pieces_of()
    other = pieces_of(sid=SID)
    tampered = bytearray(pieces[7])
    tampered[-1] ^= 1
    for name, changed in (
        ("tampered", [*pieces[:7], bytes(tampered), *pieces[8:]]),
        ("of another recording", [*pieces[:7], other[7], *pieces[8:]]),
        ("swapped", [*pieces[:7], pieces[8], pieces[7], *pieces[9:]]),
        ("dropped", [*pieces[:7], *pieces[8:]]),
        ("doubled", [*pieces[:8], *pieces[7:]]),
    ):
        found = items(opened(b"".join(changed)))
        assert [item for item in found if isinstance(item, Damage) and not item.cut], name
        assert sum(isinstance(item, Output) for item in found) >= 38, name


def test_a61_damage_to_the_key_costs_what_lies_before_the_next_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_AGAIN_BYTES", 500)
    raw = bytearray(b"".join(pieces_of()))
    assert raw.count(MARKER + b"\x01") > 2
    for place in (2, len(frame.HEADER) + 3, len(frame.HEADER) + HEAD_SIZE + 200):
        damaged = bytearray(raw)
        damaged[place] ^= 0x20
        found = items(opened(bytes(damaged)))
        assert sum(isinstance(item, Output) for item in found) > 20
        if place > 2:
            assert any(isinstance(item, Damage) for item in found)


def test_a61_a_key_added_later_opens_nothing() -> None:
    """Who can write to the store, but has neither key, puts words of his own into a recording."""
    pieces = pieces_of()
    mine, wrapped = wrap_new(SID, [KEY.public_key])
    forged = [*pieces[:5], key_record(wrapped), data_record(mine, b"forged"), *pieces[5:]]
    plain = opened(b"".join(forged))
    assert b"forged" not in plain
    assert any(isinstance(item, Damage) for item in items(plain))


def test_a39_a_key_opens_only_the_recording_of_its_session() -> None:
    with pytest.raises(TrustError, match="another session"):
        opened(RAW, sid=OTHER_SID)


def test_a_key_that_is_not_ours_is_said_at_the_end() -> None:
    theirs = b"".join(pieces_of(keys=(AgeKey(new_private_key()).public_key,)))
    decryptor = Decryptor(by_key, SID)
    assert decryptor.feed(theirs) == b""
    assert decryptor.encrypted
    with pytest.raises(TrustError, match="cannot be unwrapped"):
        decryptor.finish()
    keyless = frame.header(frame.ENCRYPTED_VERSION) + b"nothing at all, really nothing at all"
    with pytest.raises(TrustError, match="no key"):
        opened(keyless)


def test_a61_tries_and_sizes_are_bounded() -> None:
    tried = []

    def no_key(wrapped: WrappedKey) -> bytes:
        tried.append(wrapped)
        raise TrustError("no")

    _, wrapped = wrap_new(SID, [KEY.public_key])
    decryptor = Decryptor(no_key, SID)
    decryptor.feed(frame.header(frame.ENCRYPTED_VERSION) + key_record(wrapped) * 5000)
    assert len(tried) == limits.MAX_KEY_TRIES
    head = key_record(wrapped)[:HEAD_SIZE]
    assert parse_head(head) is not None
    huge = key_record(WrappedKey([], bytes(limits.MAX_WRAPPED)))[:HEAD_SIZE]
    assert parse_head(huge) is None, "a record that promises more than the limit"
    with pytest.raises(ValueError, match="more than"):
        data_record(wrap_new(SID, [KEY.public_key])[0], bytes(limits.MAX_DATA + 1))
    many = encode_wrapped(WrappedKey(["x"] * (limits.MAX_RECIPIENTS + 1), b""))
    long = encode_wrapped(WrappedKey(["x" * (limits.MAX_KEY_TEXT + 1)], b""))
    for body in (many, long, b"", b"\xc1", msgspec.msgpack.encode({"a": 1})):
        with pytest.raises(TrustError, match="not readable"):
            decrypting = Decryptor(by_key, SID)
            record = key_record(wrapped)
            # The same head for another body of the same size.
            decrypting.feed(
                frame.header(frame.ENCRYPTED_VERSION)
                + record[:HEAD_SIZE]
                + body.ljust(len(record) - HEAD_SIZE, b"\xc1")
            )
            decrypting.finish()


def test_content_of_an_envelope_is_checked() -> None:
    for content in ([SID, b"short"], [SID], "x", [1, bytes(32)]):
        envelope = pyrage.encrypt(
            msgspec.msgpack.encode(content), [pyrage.x25519.Recipient.from_str(KEY.public_key)]
        )
        with pytest.raises(TrustError):
            unwrap(WrappedKey([KEY.public_key], envelope), by_key, SID)


@pytest.mark.parametrize(
    "text",
    ["", "age1", "x" * 5000, KEY.public_key.upper(), KEY.public_key + " ", "\x1b[2J"],
    ids=["empty", "prefix", "long", "upper", "blank", "escape"],
)
def test_a_public_key_has_one_form(text: str) -> None:
    with pytest.raises(InputError, match="not a public key"):
        check_public_key(text)
    for keys in ([], [text], [KEY.public_key, text], [KEY.public_key] * 9):
        with pytest.raises(InputError):
            wrap_new(SID, keys)


def test_a_private_key_that_is_none_is_not_repeated() -> None:
    secret = new_private_key()[:-1]
    with pytest.raises(InputError) as caught:
        AgeKey(secret)
    assert secret[20:] not in f"{caught.value} {caught.value.detail}"


def test_a_write_that_failed_is_written_anew_under_another_nonce() -> None:
    class Full:
        def __init__(self) -> None:
            self.full, self.tried, self.kept = False, list[bytes](), b""

        def write(self, data: bytes) -> None:
            self.tried.append(data)
            if self.full:
                raise UnavailableError("the disk is full")
            self.kept += data

        def close(self) -> None:
            pass

    disk = Full()
    writer = RecordingWriter(RecordingCipher(SID, [KEY.public_key]).around(disk), meta(), now=0.0)
    disk.full = True
    writer.output(b"lost", 1.0)
    with pytest.raises(UnavailableError):
        writer.flush(1.0, force=True)
    disk.full = False
    writer.output(b"kept", 2.0)
    writer.finish(3.0, ended=1.79e9)
    assert len(set(disk.tried)) == len(disk.tried)
    found = items(opened(disk.kept))
    assert [item.data for item in found if isinstance(item, Output)] == [b"kept"]
    assert not [item for item in found if isinstance(item, Damage)]


def test_what_looks_like_an_encrypted_recording() -> None:
    first = len(PIECES[0])
    assert looks_encrypted(RAW[:first])
    for raw in (RAW[: first - 1], PLAIN, b"", frame.header(2), frame.header(2) + bytes(100)):
        assert not looks_encrypted(raw)


@pytest.mark.fuzz
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.just(MARKER),
            st.sampled_from(PIECES[:6]),
            st.sampled_from(
                [frame.header(2), frame.HEADER, PLAIN[:100], key_record(wrap_new(SID, [KEY.public_key])[1])]
            ),
        ),
        max_size=12,
    ),
    st.integers(1, 3000),
)
def test_fuzz_any_bytes_are_opened_or_refused(parts: list[bytes], chunk: int) -> None:
    raw = b"".join(parts)
    decryptor, out = Decryptor(by_key, SID), b""
    for at in range(0, len(raw), chunk):
        out += decryptor.feed(raw[at : at + chunk])
    try:
        out += decryptor.finish()
    except TrustError:
        assert not out
    assert len(out) <= len(raw) + len(GAP) * (len(parts) + 1)
    items(out)


@pytest.mark.fuzz
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_fuzz_one_changed_byte_is_never_silent(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RAW) - 1))
    changed = bytearray(RAW)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        plain = opened(bytes(changed))
    except TrustError:
        return
    # The file's own header is the one part whose loss costs nothing, and who may read it is only a hint.
    assert plain == PLAIN or any(isinstance(item, Damage) for item in items(plain))
    if plain == PLAIN:
        assert at < len(PIECES[0])


@pytest.mark.fuzz
@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=600)
    | st.binary(max_size=200).map(lambda tail: wrap_new(SID, [KEY.public_key])[1].envelope[:-20] + tail)
)
def test_fuzz_an_envelope_is_opened_or_refused(envelope: bytes) -> None:
    with pytest.raises(TrustError):
        KEY.open(envelope)


@pytest.mark.fuzz
@given(st.binary(max_size=400), st.integers(0, 2000))
def test_whom_a_recording_is_for_is_told_without_a_key_and_through_damage(junk: bytes, at: int) -> None:
    stored = b"".join(pieces_of())
    assert recipients_of([stored]) == {KEY.public_key}
    assert recipients_of([PLAIN]) == frozenset()
    assert recipients_of([junk]) == frozenset()
    assert recipients_of([stored[:at], junk, stored[at:]]) <= {KEY.public_key}
