"""What the shell offers after a word, by the names that people use for it."""

from __future__ import annotations

import pytest

from pkgs.clients.tctl.main import TOOL
from pkgs.clients.tsh.main import TOOL as TSH


@pytest.mark.parametrize(
    "typed, offered",
    [
        ("tctl req", {"requests"}),
        ("tctl requests ", {"ls", "get", "approve", "deny", "create", "rm", "review"}),
        ("tctl request ap", {"approve"}),
        ("tctl access ", {"explain", "who", "what", "test", "diff"}),
        ("tctl access-lists users ", {"add", "rm", "ls"}),
        ("tctl bot instances s", {"show"}),
        ("tctl lock --access", {"--access-request"}),
    ],
)
def test_completion_knows_the_verbs_and_their_other_names(
    typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    assert TOOL.main([]) == 0
    assert offered <= set(capsys.readouterr().out.split())


def test_requests_by_either_name() -> None:
    for words in (["request", "ls"], ["requests", "list"]):
        verb, _, rest = TSH._find(words, [])
        assert getattr(verb, "module", "").endswith("tsh.verbs.request.ls") and rest == []
