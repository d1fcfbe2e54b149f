"""The reference pages say what the programs do now; every flag and field is explained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = _load().pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_is_current(name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    assert path.exists(), "run `make docs`"
    assert path.read_text() == PAGES[name], "run `make docs`"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(PAGES)


def test_every_flag_and_field_is_explained() -> None:
    for name, text in PAGES.items():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert rows
        for row in rows:
            assert row.split(" | ")[1].strip(), f"{name}: no explanation: {row}"
