"""`actions` of rules: what they say, and that what they say stays one line's worth."""

from __future__ import annotations

import pytest

from pkgs.common.access.contexts.ruleactions import MAX_LINE, compile_action
from pkgs.common.access.types import UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Rule
from tests.unit.access.access_kit import alice, ask, role

USERS = frozenset({"user"})


def line(text: str, name: str = "bob") -> tuple[str, str]:
    target = UseRule("user", "update", resource=User(metadata=Metadata(name=name), spec=UserSpec()))
    return compile_action(text, USERS).line(alice(), target)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('log("info", "hello")', ("info", "hello")),
        ('log("Warning", "%v changes %v", user.metadata.name, resource.metadata.name)',
         ("warning", "alice changes bob")),
        ('log("info", "by %s", user.metadata.name, "more")', ("info", "by alice more")),
        ('log("info", "%v and %v", "%v", "x")', ("info", "%v and x")),
        ('log("info", "kind %q", resource.kind)', ("info", "kind user")),
    ],
)  # fmt: skip
def test_lines(text: str, said: tuple[str, str]) -> None:
    assert line(text) == said


def test_what_is_not_there_says_so_and_long_lines_are_cut() -> None:
    text = 'log("error", "%v", resource.metadata.name)'
    nobody = compile_action(text, USERS).line(alice(), UseRule("user", "update"))
    assert nobody in {("error", "(not known)"), ("error", "")}
    assert len(line(text, "x" * 5000)[1]) == MAX_LINE


def test_the_rule_that_decides_speaks() -> None:
    says = Rule(resources=["user"], verbs=["read"], actions=['log("info", "read by %v", user.metadata.name)'])
    silent = Rule(resources=["user"], verbs=["update"])
    held = role("r", {"rules": [says, silent]})
    assert ask([held], UseRule("user", "read")).log == (("info", "read by alice"),)
    assert ask([held], UseRule("user", "update")).log == ()
    denies = Rule(resources=["user"], verbs=["*"], actions=['log("warning", "refused")'])
    refused = ask([held, role("d", deny={"rules": [denies]})], UseRule("user", "read"))
    assert (bool(refused), refused.log) == (False, (("warning", "refused"),))


@pytest.mark.parametrize("text", ["log()", 'log("loud", "x")', 'mail("x")', 'log("info", nobody)', "log("])
def test_what_is_no_action(text: str) -> None:
    with pytest.raises(InputError):
        compile_action(text, USERS)
