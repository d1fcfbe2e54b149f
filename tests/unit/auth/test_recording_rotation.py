"""Rotating the keys of recordings: whatever is asked in whatever order, nothing becomes unreadable."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.auth.encryption import rotation
from pkgs.common.errors import AccessError, InputError
from pkgs.common.recording.encrypted.keys import AgeKey, new_private_key
from pkgs.common.resources.kinds import RecordingConfig, RecordingEncryption, RecordingKey, RecordingSpec
from pkgs.common.resources.metadata import Metadata

CONFIG = RecordingConfig(
    metadata=Metadata(name="session-recording-config"),
    spec=RecordingSpec(encryption=RecordingEncryption(enabled=True)),
)
STEPS = {
    "rotate": lambda keys: rotation.rotate(keys, 1.7e9),
    "complete": rotation.complete,
    "roll back": rotation.roll_back,
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=12))
def test_what_was_written_at_any_moment_opens_ever_after(steps: list[str]) -> None:
    keys = rotation.first_keys(1.7e9)
    written: list[tuple[str, ...]] = []
    for step in steps:
        told = rotation.with_status(CONFIG, keys).recipients
        assert told
        written.append(told)
        try:
            keys = STEPS[step](keys)
        except AccessError:
            continue
        states = [key.state for key in keys.spec.keys]
        assert states.count("active") == 1
        assert states.count("next") == rotation.rotating(keys)
        ours = {key.public_key for key in keys.spec.keys}
        assert all(ours & set(recipients) for recipients in written)
        for key in keys.spec.keys:
            assert AgeKey(key.private_key).public_key == key.public_key


def test_keys_of_a_backup_open_and_are_written_for_by_nobody() -> None:
    ours, theirs = rotation.first_keys(1.7e9), rotation.first_keys(1.7e9)
    both = rotation.adopted(theirs, ours)
    assert [key.state for key in both.spec.keys] == ["active", "rotated"]
    assert rotation.with_status(CONFIG, both) == rotation.with_status(CONFIG, ours)
    assert rotation.adopted(theirs, both).spec == both.spec
    nothing = msgspec.structs.replace(ours, spec=msgspec.structs.replace(ours.spec, keys=[]))
    assert rotation.adopted(nothing, both).spec == both.spec, "what is left out stays"
    wrong = RecordingKey(
        public_key=AgeKey(new_private_key()).public_key, private_key=new_private_key(), state="active"
    )
    with pytest.raises(InputError, match="do not belong together"):
        rotation.adopted(msgspec.structs.replace(ours, spec=type(ours.spec)(keys=[wrong])), ours)
    many = [msgspec.structs.replace(wrong, public_key=str(number)) for number in range(100)]
    with pytest.raises(InputError):
        rotation.adopted(msgspec.structs.replace(ours, spec=type(ours.spec)(keys=many)), ours)
    full = msgspec.structs.replace(ours, spec=type(ours.spec)(keys=ours.spec.keys * rotation.MAX_KEYS))
    with pytest.raises(InputError, match="keeps"):
        rotation.rotate(full, 1.7e9)


def test_a_private_key_in_the_wrong_field_is_not_repeated() -> None:
    ours, private = rotation.first_keys(1.7e9), new_private_key()
    wrong = RecordingKey(public_key=private, private_key=private, state="active")
    with pytest.raises(InputError, match=r"spec\.keys\[0\]") as refusal:
        rotation.adopted(msgspec.structs.replace(ours, spec=type(ours.spec)(keys=[wrong])), ours)
    assert private[-20:] not in str(refusal.value)
