"""The file of `tsh up`: what it means, and what is said of one that is not right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.databases.certificates import Whom
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.up import file
from pkgs.clients.tsh.up.limits import MAX_DATABASES, MAX_FILE_BYTES
from pkgs.common.errors import InputError, NotFoundError


def test_what_is_left_out_is_empty() -> None:
    found = file.parse("databases:\n- db: a\n- {db: b, user: u, name: n, roles: [r], port: 5}\n", "up.yaml")
    assert found.databases == [
        file.DatabaseEntry(db="a"),
        file.DatabaseEntry(db="b", user="u", name="n", roles=["r"], port=5),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "up.yaml:0: databases: no database"),
        ("databases: []", "up.yaml:1: databases: no database"),
        ("databases:\n- {db: a, usr: b}", "usr"),
        ("databases:\n- {user: b}", "db"),
        ("databases:\n- {db: ''}", "up.yaml:2: databases[0].db: it is empty"),
        ("databases:\n- db: a\n- db: a", "up.yaml:3: databases[1].db: 'a' is there twice"),
        ("databases:\n- {db: a, port: 5}\n- {db: b, port: 5}", "databases[1].port: 5 is there twice"),
        ("databases:\n- {db: a, port: 65536}", "databases[0].port: found 65536"),
        ("databases:\n- {db: a, port: -1}", "databases[0].port: found -1"),
        ("databases:\n" + "".join(f"- db: d{n}\n" for n in range(MAX_DATABASES + 1)), "at most 64"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        file.parse(text, "up.yaml")
    assert said in str(caught.value)


def test_a_file_that_is_not_there_or_too_long(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no"):
        file.read(tmp_path / "up.yaml")
    for content, said in ((b"#" * (MAX_FILE_BYTES + 1), "more than 256 KiB"), (b"\xff", "not UTF-8")):
        (tmp_path / "up.yaml").write_bytes(content)
        with pytest.raises(InputError, match=said):
            file.read(tmp_path / "up.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        file.read(tmp_path)


@pytest.mark.fuzz
@given(st.text(alphabet="databse:-{}[], \n\t'port5&*!|>~", max_size=200) | st.text(max_size=200))
def test_any_text_is_a_file_or_refused(text: str) -> None:
    try:
        found = file.parse(text, "up.yaml")
    except InputError:
        return
    assert found.databases


def test_a_certificate_does_for_whom_it_was_made() -> None:
    held = Held(
        cert=Path("c"), key=Path("k"), service="a", protocol="postgres", user="u", database="d",
        roles=("r",), expires_at=0.0,
    )  # fmt: skip
    assert all(each.met_by(held) for each in (Whom(), Whom("u"), Whom("u", "d"), Whom("u", "d", ("r",))))
    assert not any(each.met_by(held) for each in (Whom("v"), Whom("", "e"), Whom(roles=()), Whom("U")))
