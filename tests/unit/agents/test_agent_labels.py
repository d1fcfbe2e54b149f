"""Labels by command: bounded in time and size, and never over a fixed label (attack A23)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from pkgs.agents.base import labels
from pkgs.agents.base.labels import CommandLabels, LabelCommand


def run(commands: list[LabelCommand], fixed: dict[str, str] | None = None) -> dict[str, str]:
    async def main() -> dict[str, str]:
        made = CommandLabels(commands, fixed or {}, lambda: None, logging.getLogger("t"))
        await made.start()
        found = {name: label.result for name, label in made.current().items()}
        await made.close()
        return found

    return asyncio.run(main())


def command(name: str, *argv: str, period_s: float = 60) -> LabelCommand:
    return LabelCommand(name, argv, "1m0s", period_s)


def test_output_is_trimmed_and_no_shell_is_involved() -> None:
    assert run([command("a", "echo", "  x; $(id) ")]) == {"a": "x; $(id)"}


def test_failures_show_as_the_value() -> None:
    found = run([command("a", "/nonexistent/x"), command("b", "sh", "-c", "echo why; exit 3")])
    assert found["a"].startswith("No such file")
    assert found["b"] == "why exit status 3"


def test_a_fixed_label_cannot_be_overridden() -> None:
    assert run([command("env", "echo", "dev")], {"env": "prod"}) == {}


def test_size_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "LABEL_TIMEOUT_S", 0.3)
    found = run([command("big", "head", "-c", "1000000", "/dev/zero"), command("slow", "sleep", "60")])
    assert len(found["big"]) <= 4096
    assert found["slow"] == "the command took too long"


def test_a_command_is_not_spared_like_the_service_when_memory_runs_out(tmp_path: Path) -> None:
    score = tmp_path / "7" / "oom_score_adj"
    score.parent.mkdir()
    for before, after in (("-500\n", "0"), ("0\n", "0\n"), ("200\n", "200\n")):
        score.write_text(before)
        labels._spare_no_more(7, tmp_path)
        assert score.read_text() == after
    labels._spare_no_more(8, tmp_path)  # over already
