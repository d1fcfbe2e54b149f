"""Pieces of tctl without a cluster."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from pkgs.clients.tctl.flags import COMMON, commas, duration
from pkgs.clients.tctl.main import TOOL, main
from pkgs.clients.tctl.verbs import lock as lock_verb
from pkgs.clients.tctl.verbs.access import explain as access_explain
from pkgs.clients.tctl.verbs.access import what as access_what
from pkgs.clients.tctl.verbs.access import who as access_who
from pkgs.clients.tctl.verbs.audit import events
from pkgs.clients.tctl.verbs.resources import tables
from pkgs.clients.tctl.verbs.tokens import add as tokens_add
from pkgs.clients.tctl.verbs.tokens import ls as tokens_ls
from pkgs.clients.tctl.verbs.users import add as users_add
from pkgs.clients.tctl.verbs.users import invitation
from pkgs.clients.tctl.verbs.users import update as users_update
from pkgs.clients.tctl.verbs.users.traits import TRAITS, traits_of
from pkgs.clients.tsh.main import TOOL as TSH
from pkgs.common.access.explaining.explain import Explained, Finding, Missing
from pkgs.common.api.audit import StoredEvent
from pkgs.common.api.login import Invitation
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.events.types import Event
from pkgs.common.output.argv import Parsed, Parser, Spec
from pkgs.common.output.help import help_text
from pkgs.common.output.tool import Group, Tool, Verb
from pkgs.common.resources.kinds import (
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
    Token,
    TokenSpec,
    User,
    UserSpec,
)
from pkgs.common.resources.metadata import Metadata


def test_deleting_nobody_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    for nobody in ("", " , "):
        assert main(["users", "rm", nobody]) == 2
        assert "no user is named" in capsys.readouterr().err


def every_verb(group: Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Verb | Group]]:
    found: list[tuple[tuple[str, ...], Verb | Group]] = []
    for name, verb in group.verbs.items():
        found.append(((*path, name), verb))
        if isinstance(verb, Group):
            found += every_verb(verb, (*path, name))
    return found


@pytest.mark.parametrize("tool", [TOOL, TSH], ids=lambda tool: tool.name)
def test_every_verb_has_help_a_runner_and_flags_that_do_not_clash(tool: Tool) -> None:
    for path, verb in every_verb(tool.root):
        text = help_text(tool, list(path))
        assert text.startswith(f"Usage: {tool.name} {' '.join(path)}"), path
        assert verb.help and not verb.help.endswith("\n")
        if isinstance(verb, Group):
            continue
        spec = verb.spec()
        assert callable(importlib.import_module(verb.module).run)
        assert spec.help.rstrip().endswith("."), (path, spec.help)
        names = [flag.name for flag in spec.flags]
        shorts = [flag.short for flag in spec.flags if flag.short]
        assert len(set(names)) == len(names), path
        assert len(set(shorts)) == len(shorts), path
        assert all(flag.help for flag in spec.flags)
        for name in names:
            assert f"--{name}" in text, (path, name)


def args(spec: Spec, *words: str) -> Parsed:
    return Parser(spec.flags, COMMON, {}).all(spec, list(words))


def test_traits_from_flags() -> None:
    given = args(users_add.SPEC, "bob", "--roles=access", "--logins=root, ubuntu,root", "--db-users=")
    assert traits_of(given, "", TRAITS) == {"logins": ["root", "ubuntu"], "db_users": []}
    assert commas(" a,,b ,a") == ["a", "b"]


def test_durations() -> None:
    assert duration(args(users_add.SPEC, "bob", "--ttl=90m"), "ttl") == 5400
    for bad in ("0s", "x", "", "49h"):
        with pytest.raises(InputError, match="--ttl"):
            duration(args(users_add.SPEC, "bob", f"--ttl={bad}"), "ttl", most_s=48 * 3600)


def test_token_types() -> None:
    assert tokens_add.roles_of("node,Proxy,ssh") == ["Node", "Proxy"]
    with pytest.raises(InputError, match="node"):
        tokens_add.roles_of("nodes")


def test_a_masked_token_shows_its_last_quarter() -> None:
    token = Token(metadata=Metadata(name="0123456789abcdef"), spec=TokenSpec(roles=["Node"]))
    assert tokens_ls._masked(token).name == "************cdef"


def test_an_invitation_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    answer = Invitation(
        user="bob", token="t", kind="invite", url="https://hub:3080/web/invite/t", expires_at=4599.0
    )
    invitation.show(answer, 'User "bob" has been created', "text")
    out = capsys.readouterr().out
    assert "link is valid for 1h:\nhttps://hub:3080/web/invite/t\n" in out
    assert "tsh signup https://hub:3080/web/invite/t\n" in out
    assert "NOTE: Make sure hub:3080" in out


def test_remaining_times_are_rounded_to_what_was_asked() -> None:
    for seconds, text in (
        (3599.9, "1h"),
        (1799.5, "30m"),
        (599.6, "10m"),
        (5400, "1h30m"),
        (45, "45s"),
        (28800, "8h"),
    ):
        assert invitation._rounded(seconds) == text


def stored(**fields: object) -> StoredEvent:
    event = Event(
        event="user.login", code="T1000I", time="2026-01-02T03:04:05.006Z", uid="u", cluster_name="demo",
        fields=fields,  # type: ignore[arg-type]
    )  # fmt: skip
    return StoredEvent(seq=1, event=event, hash="h")


def test_events_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    event = stored(user="bob", success=True, empty="", roles=["a", "b"], addr="\x1b[2J\n")
    events.write_line(event, "text")
    events.write_line(event, "json")
    text, as_json = capsys.readouterr().out.splitlines()
    assert text == r"2026-01-02 03:04:05 T1000I user.login bob success=true roles=a,b addr=\x1b[2J\n"
    assert '"user":"bob"' in as_json
    assert len(events.details({"x": "y" * 1000})) == events.MAX_DETAIL_CHARS


def test_tables_of_kinds() -> None:
    user = User(metadata=Metadata(name="bob"), spec=UserSpec(roles=["access"]))
    assert "bob  access" in tables.table_of("user", [user], width=None)
    lock = Lock(
        metadata=Metadata(name="l1"),
        spec=LockSpec(target=LockTarget(user="bob"), expires=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    assert "user=bob" in tables.table_of("lock", [lock], width=None)
    assert tables.table_of("saml", [user], width=None).startswith("Name")


class TestAccess:
    def test_actions(self) -> None:
        asked = args(access_explain.SPEC, "--user=alice", "--roles=a, b", "ssh", "me@corp@web1")
        request = access_explain.request_of(asked)
        assert (request.words, request.who.roles) == (["ssh", "me@corp@web1"], ["a", "b"])
        words = ["resource", "role", "update", "access"]
        asked = args(
            access_explain.SPEC,
            "--user=alice",
            "--with-mfa",
            "--at=2026-11-28T20:00:00Z",
            "--from-addr=10.0.0.5",
            *words,
        )
        request = access_explain.request_of(asked)
        assert request.words == words
        assert (request.who.with_mfa, request.who.with_device) == (True, False)
        assert (request.who.at, request.who.source_addr) == (1795896000.0, "10.0.0.5")

    @pytest.mark.parametrize(
        "words",
        [
            ("ssh", "web1"),
            ("ssh", "@web1"),
            ("ssh", "root@"),
            ("ssh", "a@b", "c"),
            ("resource", "role"),
            ("resource", "a", "b", "c", "d"),
            ("fly", "x"),
        ],
    )
    def test_what_is_no_action_is_said(self, words: tuple[str, ...]) -> None:
        with pytest.raises(InputError):
            access_explain.request_of(args(access_explain.SPEC, "--user=alice", *words))

    def test_a_user_is_required(self) -> None:
        with pytest.raises(InputError, match="--user"):
            access_explain.request_of(args(access_explain.SPEC, "ssh", "a@b"))
        with pytest.raises(InputError, match="--user"):
            access_what.run(args(access_what.SPEC))
        with pytest.raises(InputError, match="ssh LOGIN@NODE"):
            access_who.run(args(access_who.SPEC, "fly", "a@b"))

    def test_the_text_is_inert(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = Explained(
            allowed=False,
            user="alice",
            roles=["access", "d"],
            action="ssh deploy@web1",
            reasons=["no\x1b[31m"],
            findings=[Finding("access", "lacks", "allows the labels but not the login deploy")],
            conditions=["role access requires MFA for every session"],
            missing=[
                Missing("add", "access", "allow.logins", "deploy"),
                Missing("add", "", "allow.rules", "role read"),
                Missing("remove", "d", "deny.logins", "*"),
                Missing("meet", "", "", "lock l: gone"),
                Missing("meet", "access", "options", "session MFA required"),
            ],
        )

        class Client:
            def call(self, request: object) -> Explained:
                return found

        monkeypatch.setattr(access_explain, "connect", lambda args: nullcontext(Client()))
        access_explain.run(args(access_explain.SPEC, "--user=alice", "ssh", "deploy@web1"))
        told = capsys.readouterr().out.splitlines()
        assert "\x1b" not in "".join(told)
        assert told[0] == "denied: alice, ssh deploy@web1"
        assert "  role access allows the labels but not the login deploy" in told
        assert told[-5:] == [
            "  role access: add to allow.logins: deploy",
            "  some role: add to allow.rules: role read",
            "  role d: remove from deny.logins: *",
            "  lock l: gone",
            "  role access: session MFA required",
        ]


def test_users_have_every_trait_flag_of_the_field() -> None:
    fields = [
        "logins",
        "windows-logins",
        "kubernetes-users",
        "kubernetes-groups",
        "db-users",
        "db-names",
        "db-roles",
        "aws-role-arns",
        "azure-identities",
        "gcp-service-accounts",
        "host-user-uid",
        "host-user-gid",
        "mcp-tools",
    ]
    adding = {flag.name for flag in users_add.SPEC.flags}
    assert adding == {*fields, "roles", "ttl", "format"}
    assert {flag.name for flag in users_update.SPEC.flags} == {f"set-{name}" for name in (*fields, "roles")}
    given = args(users_update.SPEC, "bob", *(f"--set-{name}=a,b" for name in fields))
    traits = traits_of(given, "set-", TRAITS)
    assert set(traits) == {name.replace("-", "_") for name in fields}
    assert all(values == ["a", "b"] for values in traits.values())


class TestLock:
    NAMED = (
        Node(metadata=Metadata(name="id-1"), spec=ServerSpec(hostname="web")),
        Node(metadata=Metadata(name="id-2"), spec=ServerSpec(hostname="db")),
        Node(metadata=Metadata(name="id-3"), spec=ServerSpec(hostname="db")),
    )

    def test_flags_are_the_targets_of_a_lock(self) -> None:
        flags = {flag.name.replace("-", "_") for flag in lock_verb.TARGETS}
        assert flags == set(LockTarget.__struct_fields__)

    def test_a_servers_name_stands_for_the_one_that_has_it(self) -> None:
        assert lock_verb.the_one(lock_verb.server_ids(self.NAMED, "web"), "server", "--x") == "id-1"
        with pytest.raises(InputError, match="not the only one of its name: id-2, id-3"):
            lock_verb.the_one(lock_verb.server_ids(self.NAMED, "db"), "server", "--x")
        with pytest.raises(NotFoundError, match="not found"):
            lock_verb.the_one(lock_verb.server_ids(self.NAMED, "none"), "server", "--x")

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            ((), "what is to be locked"),
            (("--message=x",), "what is to be locked"),
            (("--user=a", "--ttl=1h", "--expires=2199-01-01"), "use only one of --expires and --ttl"),
            (("--user=a", "--expires=2020-01-01"), "this time is over"),
            (("--user=a", "--ttl=0s"), "at least 1s"),
        ],
    )
    def test_what_is_refused_before_anybody_is_asked(self, words: tuple[str, ...], text: str) -> None:
        with pytest.raises(InputError, match=text):
            lock_verb.run(args(lock_verb.SPEC, *words))
