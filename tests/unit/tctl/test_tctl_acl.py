"""Pieces of `tctl acl` without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from pkgs.clients.tctl.flags import COMMON
from pkgs.clients.tctl.main import TOOL
from pkgs.clients.tctl.verbs.acl import create, explain, grants, show, summary, update
from pkgs.clients.tctl.verbs.acl.users import add as users_add
from pkgs.clients.tctl.verbs.acl.users import ls as users_ls
from pkgs.common.access.validate import validate
from pkgs.common.api.accesslists import GrantedBy, ListsOfUser
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Parser, Spec
from pkgs.common.resources.kinds import AccessListMember
from pkgs.common.resources.kinds.requests import ListMemberSpec
from pkgs.common.resources.metadata import Metadata

OWNED = ("--title=T", "--owners=olga")


def args(spec: Spec, *words: str) -> Parsed:
    return Parser(spec.flags, COMMON, {}).all(spec, list(words))


@pytest.mark.parametrize(
    "words, verb",
    [
        (["acl", "ls"], "acl.ls"),
        (["access-lists", "ls"], "acl.ls"),
        (["access-lists", "users", "del"], "acl.users.rm"),
        (["acl", "delete"], "acl.rm"),
        (["users", "del"], "users.rm"),
        (["tokens", "del"], "tokens.rm"),
        (["del"], "resources.rm"),
        (["bot", "instances", "list"], "bots.instances.ls"),
        (["request", "ls"], "requests.ls"),
    ],
)
def test_aliases_reach_the_verb(words: list[str], verb: str) -> None:
    path: list[str] = []
    found, _, rest = TOOL._find(words, path)
    assert getattr(found, "module", "").endswith(f"verbs.{verb}")
    assert rest == [] and not {"access-lists", "bot", "request", "del"} & set(path)


def test_a_list_from_flags() -> None:
    given = args(
        create.SPEC, "prod", *OWNED, "--owner-access-lists=bosses", "--description=D", "--audit-frequency=3",
        "--audit-day=last", "--member-grant-roles=access, dev",
        "--member-grant-traits=logins=root,logins=ops,team=x",
        "--owner-grant-roles=auditor", "--member-required-roles=staff", "--owner-required-traits=level=9",
    )  # fmt: skip
    made = grants.new_list(given, "prod")
    validate(made)
    spec = made.spec
    assert [(o.name, o.membership_kind) for o in spec.owners] == [
        ("olga", "MEMBERSHIP_KIND_USER"),
        ("bosses", "MEMBERSHIP_KIND_LIST"),
    ]
    assert spec.grants.roles == ["access", "dev"]
    assert spec.grants.traits == {"logins": ["root", "ops"], "team": ["x"]}
    assert spec.owner_grants.roles == ["auditor"]
    assert spec.membership_requires.roles == ["staff"]
    assert spec.ownership_requires.traits == {"level": ["9"]}
    assert (spec.audit.recurrence.frequency, spec.audit.recurrence.day_of_month) == ("3", "last")
    assert show.row(made)[2:] == ("3 months", "last", "access,dev", "logins=root,logins=ops,team=x")


def test_each_flag_replaces_and_the_rest_stays() -> None:
    before = grants.new_list(
        args(create.SPEC, *OWNED, "--owner-access-lists=bosses", "--member-grant-roles=a"), "prod"
    )
    due = datetime(2026, 1, 1, tzinfo=UTC)
    audit = msgspec.structs.replace(before.spec.audit, next_audit_date=due)
    before = msgspec.structs.replace(before, spec=msgspec.structs.replace(before.spec, audit=audit))
    after = grants.applied(args(update.SPEC, "prod", "--owners=rita,sven"), before)
    assert [o.name for o in after.spec.owners] == ["rita", "sven", "bosses"]
    assert (after.spec.title, after.spec.grants, after.spec.audit) == ("T", before.spec.grants, audit)
    after = grants.applied(
        args(update.SPEC, "prod", "--owner-access-lists=", "--member-grant-roles="), before
    )
    assert [o.name for o in after.spec.owners] == ["olga"]
    assert after.spec.grants.roles == []
    # A new rhythm asks the Auth Service for the day.
    after = grants.applied(args(update.SPEC, "prod", "--audit-frequency=1"), before)
    assert after.spec.audit.next_audit_date is None and after.spec.audit.recurrence.frequency == "1"


def test_resources_become_a_role_that_is_granted_or_may_be_requested() -> None:
    words = ("prod", *OWNED, "--node-labels=env=prod", "--logins=root,ops", "--db-labels=*=*", "--db-users=*")
    given = args(create.SPEC, *words)
    (access,) = grants.roles_for(given, "prod")
    validate(access)
    assert access.name == "acl-access-prod" and access.metadata.labels == {grants.FOR_LIST: "prod"}
    assert access.spec.allow.node_labels == {"env": "prod"} and access.spec.allow.logins == ["root", "ops"]
    assert access.spec.allow.db_labels == {"*": "*"} and access.spec.allow.db_users == ["*"]
    made = grants.granting(grants.new_list(given, "prod"), [access])
    assert made.spec.grants.roles == ["acl-access-prod"]

    given = args(create.SPEC, *words, "--access-type=request-based")
    access, request = grants.roles_for(given, "prod")
    validate(request)
    assert request.spec.allow.request is not None
    assert request.spec.allow.request.search_as_roles == ["acl-access-prod"]
    assert not request.spec.allow.node_labels and not request.spec.allow.logins
    assert grants.granting(made, [access, request]).spec.grants.roles == ["acl-request-prod"]
    assert grants.granting(made, []).spec.grants.roles == []
    assert grants.roles_for(args(create.SPEC, *OWNED), "prod") == []
    with pytest.raises(InputError, match="was not made for"):
        grants.check_ours(access, "other")


@pytest.mark.parametrize(
    "words, text",
    [
        (("x", "--owners=a"), "--title"),
        (("x", "--title=t"), "owner"),
        (("x", *OWNED, "--member-grant-traits=team"), "no trait"),
        (("x", *OWNED, "--member-grant-traits=team="), "no trait"),
        (("x", *OWNED, "--node-labels=env"), "no label"),
    ],
)
def test_what_a_new_list_needs(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(InputError, match=text):
        create.run(args(create.SPEC, *words))


def test_what_an_update_needs() -> None:
    with pytest.raises(InputError, match="nothing to update"):
        update.run(args(update.SPEC, "x"))
    with pytest.raises(InputError, match="remove-access"):
        update.run(args(update.SPEC, "x", "--remove-access", "--logins=root"))


def test_members_from_words() -> None:
    asked = users_add.request_of(args(users_add.SPEC, "prod", "alice", "2030-01-01", "on call"), 1e9)
    assert (asked.access_list, asked.name, asked.kind, asked.reason) == ("prod", "alice", "user", "on call")
    assert asked.expires_at == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    asked = users_add.request_of(args(users_add.SPEC, "prod", "team", "", "why", "--kind=list"), 1e9)
    assert (asked.kind, asked.expires_at, asked.reason) == ("list", 0.0, "why")
    for bad in ("yesterday", "2001-01-01"):
        with pytest.raises(InputError, match="EXPIRES"):
            users_add.request_of(args(users_add.SPEC, "prod", "alice", bad), 1e9)


def test_members_as_rows() -> None:
    spec = ListMemberSpec(
        access_list="prod",
        name="team",
        membership_kind="MEMBERSHIP_KIND_LIST",
        ineligible_status="INELIGIBLE_STATUS_MISSING_REQUIREMENTS",
    )
    assert users_ls.row(AccessListMember(metadata=Metadata(name="team"), spec=spec)) == (
        "team", "list", "missing requirements", "", "never", "", "",
    )  # fmt: skip


def test_a_summary_is_of_what_is_due_unless_said_otherwise() -> None:
    assert args(summary.SPEC).on("review-only")
    assert not args(summary.SPEC, "--no-review-only").on("review-only")


def test_the_story_of_a_user_is_inert() -> None:
    found = ListsOfUser(
        user="alice\x1b[2J",
        roles=["nothing", "access"],
        granted=[
            GrantedBy(what="role", name="access", path=["team", "prod\x1b[2J"]),
            GrantedBy(what="trait", name="logins", value="root", path=["team"], as_owner=True),
        ],
        without_effect={"old\x07": "membership: expired"},
    )
    told = explain.lines(found)
    assert "\x1b" not in "".join(told) and "\x07" not in "".join(told)
    assert told[2].startswith("  role access, as member of team > prod")
    assert told[3] == "  trait logins: root, as owner of team"
    assert told[-1].endswith(": membership: expired")
    empty = ListsOfUser(user="alice", roles=[], granted=[], without_effect={})
    assert explain.lines(empty) == ["roles of alice at a login: none", "from access lists: nothing"]
