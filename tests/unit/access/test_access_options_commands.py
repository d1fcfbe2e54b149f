"""What may be run over SSH, by the lists of commands and the forced command of roles."""

from __future__ import annotations

import shlex
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.options.commands import FREE, Confinement, check_command, confinement
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.resources.role import Role, SshConditions
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import only

DEV = {"env": "dev"}
HOSTILE = [
    "uptime; id",
    "uptime -p; id",
    "uptime -p && id",
    "uptime -p | sh",
    "uptime -p $(id)",
    "uptime -p `id`",
    "uptime -p\nid",
    "uptime -p\rid",
    "uptime -p & id",
    "uptime -p > /etc/passwd",
    "uptime -p 'x'",
    'uptime -p "x"',
    "uptime -p \\x",
    "uptime -p ${IFS}",
    "uptime -p {a,b}",
    "uptime -p ~root",
    "uptime -p #",
    "uptime -p \u2028id",
]


def commands(*entries: str, **allow: Any) -> dict[str, Any]:
    return {"node_labels": DEV, "logins": ["root"], "ssh": SshConditions(commands=list(entries)), **allow}


def denied(*entries: str, **deny: Any) -> dict[str, Any]:
    return {"ssh": SshConditions(commands=list(entries)), **deny}


def of(*roles: Role, login: str = "root", traits: Any = None, **more: Any) -> Confinement:
    return confinement(roles, DEV, login, traits or {}, **more)


def runs(found: Confinement, command: str) -> bool:
    return not found.refusal("exec", command)


def test_without_a_word_in_the_roles_everything_runs() -> None:
    assert of(role("a", {"node_labels": DEV, "logins": ["root"]})) == FREE
    assert not FREE.refusal("shell", "")
    assert not FREE.refusal("exec", "rm -rf /", exact=False)
    assert not FREE.refusal("subsystem", "sftp")


def test_a_list_confines_to_itself() -> None:
    found = of(role("a", commands("uptime", "systemctl status *", "^git-(upload|receive)-pack '[a-z/]+'$")))
    assert runs(found, "uptime")
    assert runs(found, "systemctl status web.service")
    assert runs(found, "git-upload-pack 'a/b'")
    for command in ("uptime ", "uptime -p", " uptime", "systemctl status", "git-upload-pack 'a'; id", "sh"):
        assert not runs(found, command), command
    assert "list what may run" in found.refusal("shell", "")
    assert found.refusal("subsystem", "sftp")


@pytest.mark.parametrize("command", HOSTILE)
def test_a_glob_lets_no_second_command_pass(command: str) -> None:
    assert not runs(of(role("a", commands("uptime *", "uptime*"))), command)


@given(st.text(max_size=40))
def test_what_a_glob_adds_is_words_and_nothing_else(tail: str) -> None:
    if runs(of(role("a", commands("uptime *"))), f"uptime {tail}"):
        assert shlex.split(tail) == tail.split()
        assert shlex.join(tail.split()) == " ".join(tail.split()) or "=" in tail or "^" in tail
        assert not set(tail) & set(";&|<>()$`\\\"'\n\r\t*?[]{}~#!")


def test_an_expression_must_match_the_whole_command() -> None:
    found = of(role("a", commands("^uptime|id$")))
    assert runs(found, "uptime") and runs(found, "id")
    assert not runs(found, "uptime; sh") and not runs(found, "sh; id")


def test_a_star_alone_is_every_command_and_no_shell() -> None:
    found = of(role("a", commands("*")))
    assert runs(found, "a; b\nc")
    assert found.refusal("shell", "") and found.refusal("subsystem", "sftp")


def test_shells_and_subsystems_have_words() -> None:
    found = of(role("a", commands("shell", "subsystem:sftp")))
    assert not found.refusal("shell", "") and not found.refusal("subsystem", "sftp")
    assert not runs(found, "shell") and not runs(found, "subsystem:sftp")
    assert found.refusal("subsystem", "netconf")
    assert not of(role("a", commands("subsystem:*"))).refusal("subsystem", "netconf")
    assert runs(of(role("a", commands("^shell$"))), "shell")


def test_what_cannot_be_compared_does_not_run() -> None:
    assert of(role("a", commands("*"))).refusal("exec", "uptime", exact=False)
    assert of(role("a", deny=denied("x"))).refusal("exec", "uptime", exact=False)


class TestDeny:
    def test_it_wins(self) -> None:
        found = of(role("a", commands("*", "shell")), role("b", deny=denied("rm *", "shell")))
        assert runs(found, "uptime")
        assert not runs(found, "rm -rf /; $(x)\n")
        assert "denies" in found.refusal("shell", "")

    def test_it_needs_no_list(self) -> None:
        found = of(role("b", deny=denied("^.*passwd.*$")))
        assert not runs(found, "cat /etc/passwd") and runs(found, "uptime")
        assert not found.refusal("shell", "")

    def test_a_star_is_everything(self) -> None:
        found = of(role("a", commands("*", "shell")), role("b", deny=denied("*")))
        assert found.refusal("shell", "") and found.refusal("subsystem", "sftp") and not runs(found, "id")

    def test_it_counts_on_the_servers_it_names(self) -> None:
        assert runs(of(role("b", deny=denied("id", node_labels={"env": "prod"}))), "id")

    def test_a_trait_in_it_may_be_a_pattern(self) -> None:
        found = of(role("b", deny=denied("{{external.bad}}")), traits={"bad": ("rm *",)})
        assert not runs(found, "rm x")


class TestWhichRolesCount:
    def test_another_server_or_another_login_does_not(self) -> None:
        assert of(role("a", commands("x", node_labels={"env": "prod"}))) == FREE
        assert of(role("a", commands("x", logins=["bob"]))) == FREE
        assert of(role("a", commands("x", logins=["bob"])), login="bob").confined

    def test_a_role_that_names_neither_means_all(self) -> None:
        assert of(role("a", commands("x", node_labels={}, logins=[]))).confined

    def test_a_role_beside_it_without_a_list_does_not_lift_it(self) -> None:
        free = role("b", {"node_labels": DEV, "logins": ["root"]})
        for order in permutations([role("a", commands("uptime")), free]):
            found = of(*order)
            assert runs(found, "uptime") and not runs(found, "id") and found.refusal("shell", "")

    def test_lists_add_up(self) -> None:
        found = of(role("a", commands("uptime")), role("b", commands("shell")))
        assert runs(found, "uptime") and not found.refusal("shell", "")

    def test_out_of_force_a_role_confines_and_grants_nothing(self) -> None:
        roles = [role("a", commands("uptime")), role("b", commands("id"))]
        found = of(*roles, in_force=only("b"))
        assert found.confined and runs(found, "id") and not runs(found, "uptime")

    def test_a_deny_out_of_force_does_not_refuse(self) -> None:
        assert runs(of(role("b", deny=denied("id")), refusing=only()), "id")


class TestTraits:
    def test_a25_a_value_is_text(self) -> None:
        found = of(role("a", commands("{{external.c}}")), traits={"c": ("*", "shell", "ls *", "^.*$")})
        assert runs(found, "*") and runs(found, "shell") and runs(found, "ls *")
        assert not runs(found, "id") and not runs(found, "ls x") and found.refusal("shell", "")

    def test_a25_inside_a_command_it_is_a_word(self) -> None:
        traits = {"svc": ("web", "web; id", "$(id)", "-x", "a b")}
        found = of(role("a", commands("restart {{external.svc}}")), traits=traits)
        assert runs(found, "restart web")
        for value in traits["svc"][1:]:
            assert not runs(found, f"restart {value}"), value


class TestForced:
    def test_a_role_forces_its_command_where_it_counts(self) -> None:
        forcing = role("a", {"node_labels": DEV, "logins": ["root"]}, force_command="backup")
        assert of(forcing).forced_command() == "backup"
        assert of(forcing, login="bob").forced_command() == ""
        assert of(forcing, in_force=only()).forced_command() == "backup"

    def test_a13_two_that_disagree_run_nothing(self) -> None:
        roles = [role(n, {"node_labels": DEV}, force_command=n) for n in ("a", "b")]
        with pytest.raises(InputError, match="different commands"):
            of(*roles).forced_command()
        with pytest.raises(InputError, match="different commands"):
            of(roles[0]).forced_command("other")
        assert of(roles[0]).forced_command("a") == "a"
        assert FREE.forced_command("mine") == "mine"


@pytest.mark.parametrize("entry", ["", " ", "subsystem:", "^($", "{{external}}", "x" * 1001])
def test_what_is_not_understood_is_not_stored(entry: str) -> None:
    with pytest.raises(InputError):
        check_command(entry)
    for side in ("allow", "deny"):
        sides = {side: denied("ok", entry)}
        with pytest.raises(InputError, match=rf"spec\.{side}\.ssh\.commands\[1\]"):
            validate(role("r", **sides))


@pytest.mark.parametrize("command", [" ", "a\nb", "a\0b"])
def test_a_forced_command_is_one_line(command: str) -> None:
    with pytest.raises(InputError, match="force_command"):
        validate(role("r", force_command=command))
