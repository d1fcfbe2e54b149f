"""Accounts that are made for a session: on servers, on desktops, in databases."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.options.database import DbUser, chosen_db_roles, db_user
from pkgs.common.access.options.desktop import desktop_options
from pkgs.common.access.options.hostuser import NO_HOST_USER, host_user
from pkgs.common.errors import DeniedError, InputError
from tests.unit.access.role_kit import only, role

DEV = {"env": "dev"}
STAR = {"*": "*"}
TRAITS: dict[str, tuple[str, ...]] = {
    "groups": ("docker", "-x", "a b", "*", "a\nb"),
    "svc": ("web", "web, /bin/sh", "*", "web\nALL"),
    "line": ("ALL=(ALL) ALL", "*", "x\ny"),
}


def on_dev(**allow: Any) -> dict[str, Any]:
    return {"node_labels": DEV, **allow}


class TestHostUser:
    @pytest.mark.parametrize(
        ("options", "on", "expected"),
        [
            ([{"create_host_user_mode": "keep"}], "abc", "keep"),
            ([{"create_host_user_mode": "insecure-drop"}], "abc", "insecure-drop"),
            ([{"create_host_user_mode": m} for m in ("insecure-drop", "keep")], "abc", "keep"),
            ([{"create_host_user_mode": m} for m in ("off", "keep")], "abc", "off"),
            ([{}, {"create_host_user_mode": "keep"}], "abc", "off"),
            ([{"create_host_user": True}], "abc", "keep"),
            ([{"create_host_user": True, "create_host_user_mode": "off"}], "abc", "off"),
            ([{"create_host_user": False}], "abc", "off"),
            ([{"create_host_user_mode": m} for m in ("insecure-drop", "keep")], "a", "insecure-drop"),
            ([{"create_host_user_mode": m} for m in ("keep", "off")], "a", "off"),
            ([{"create_host_user_mode": "keep"}], "", "off"),
            ([], "", "off"),
        ],
    )
    def test_mode(self, options: list[dict[str, Any]], on: str, expected: str) -> None:
        roles = [role(name, on_dev(), **found) for name, found in zip("abc", options, strict=False)]
        for order in permutations(roles):
            assert host_user(order, DEV, {}, only(*on)).mode == expected

    def test_only_roles_that_match_the_server_have_a_say(self) -> None:
        maker = role("a", on_dev(host_groups=["dev"]), create_host_user_mode="keep")
        other = role("b", {"node_labels": {"env": "prod"}, "host_groups": ["wheel"]})
        assert host_user([maker, other], DEV, {}).groups == ("dev",)
        assert host_user([maker, other], {"env": "prod"}, {}) == NO_HOST_USER
        by_expression = role(
            "c", {"node_labels_expression": 'labels["env"] == "dev"'}, create_host_user_mode="keep"
        )
        assert host_user([by_expression], DEV, {}).mode == "keep"
        assert host_user([by_expression], {"env": "prod"}, {}).mode == "off"
        both = role(
            "d",
            on_dev(node_labels_expression='labels["x"] == "y"'),
            create_host_user_mode="keep",
        )
        assert host_user([both], DEV, {}).mode == "off"
        with pytest.raises(InputError, match=r"role e: allow\.node_labels_expression"):
            host_user([role("e", {"node_labels_expression": "("})], DEV, {})

    def test_the_first_shell_by_role_name_and_what_it_beat(self) -> None:
        roles = [
            role("b", on_dev(), create_host_user_mode="keep", create_host_user_default_shell="/bin/zsh"),
            role("a", on_dev(), create_host_user_mode="keep", create_host_user_default_shell="/bin/bash"),
            role("c", on_dev(), create_host_user_mode="keep"),
        ]
        for order in permutations(roles):
            found = host_user(order, DEV, {})
            assert (found.shell, found.other_shells) == ("/bin/bash", ("/bin/zsh",))
        assert host_user(roles, DEV, {}, only("b")).shell == "/bin/zsh"

    def test_groups(self) -> None:
        maker = role("a", on_dev(host_groups=["dev", "wheel"]), create_host_user_mode="keep")
        more = role("b", on_dev(host_groups=["{{external.groups}}"]), create_host_user_mode="keep")
        assert host_user([maker, more], DEV, TRAITS).groups == ("dev", "docker", "wheel")
        assert host_user([maker, more], DEV, TRAITS, only("a")).groups == ("dev", "wheel")
        for deny, expected in (
            ({"host_groups": ["wheel"]}, ("dev",)),
            ({"host_groups": ["*"]}, ()),
            ({"host_groups": ["wheel"], "node_labels": {"env": "prod"}}, ("dev", "wheel")),
        ):
            # A role of nothing but denies counts everywhere, one that names servers for these.
            assert host_user([maker, role("c", deny=deny)], DEV, {}, only("a")).groups == expected

    def test_a_deny_of_a_role_about_other_servers_is_not_for_this_one(self) -> None:
        maker = role("a", on_dev(host_groups=["wheel"]), create_host_user_mode="keep")
        other = role("b", {"node_labels": {"env": "prod"}}, {"host_groups": ["wheel"]})
        assert host_user([maker, other], DEV, {}).groups == ("wheel",)

    def test_sudoers_in_the_order_of_role_names(self) -> None:
        roles = [
            role("b", on_dev(host_sudoers=["ALL=(b) x", "ALL=(a) x"]), create_host_user_mode="keep"),
            role("a", on_dev(host_sudoers=["ALL=(z) x", "ALL=(a) x"]), create_host_user_mode="keep"),
        ]
        for order in permutations(roles):
            lines = host_user(order, DEV, {}).sudoers
            assert lines == ("ALL=(z) x", "ALL=(a) x", "ALL=(b) x")
        deny = role("c", deny={"host_sudoers": ["ALL=(a) x", "ALL=(*) x"]})
        assert host_user([*roles, deny], DEV, {}).sudoers == ("ALL=(z) x", "ALL=(b) x")
        clear = role("d", deny={"host_sudoers": ["*"]})
        assert host_user([*roles, clear], DEV, {}, only("a", "b")).sudoers == ()

    def test_a25_a59_a_trait_adds_nothing_to_a_sudoers_line(self) -> None:
        entry = "ALL=(root) /bin/systemctl restart {{external.svc}}"
        maker = role("a", on_dev(host_sudoers=[entry, "ok", "x\ny", " "]), create_host_user_mode="keep")
        assert host_user([maker], DEV, TRAITS).sudoers == ("ALL=(root) /bin/systemctl restart web", "ok")
        whole = role("a", on_dev(host_sudoers=["{{external.line}}"]), create_host_user_mode="keep")
        assert host_user([whole], DEV, TRAITS).sudoers == ("ALL=(ALL) ALL",)


class TestDesktop:
    def test_all_matching_roles_must_make_the_account(self) -> None:
        labels = {"windows_desktop_labels": DEV}
        yes = role("a", {**labels, "desktop_groups": ["Users", "a*b"]}, create_desktop_user=True)
        no = role("b", labels)
        elsewhere = role("c", {"windows_desktop_labels": {"env": "prod"}})
        assert desktop_options([yes, elsewhere], DEV, {}).create_user
        assert desktop_options([yes, elsewhere], DEV, {}).groups == ("Users",)
        assert not desktop_options([yes, no], DEV, {}).create_user
        assert not desktop_options([yes, no], DEV, {}, only("a")).create_user
        assert not desktop_options([yes], DEV, {}, only()).create_user
        assert desktop_options([yes, no], DEV, {}).groups == ()
        assert not desktop_options([elsewhere], DEV, {}).create_user

    def test_groups_minus_deny(self) -> None:
        yes = role(
            "a",
            {"windows_desktop_labels": DEV, "desktop_groups": ["Users", "Admins", "{{external.groups}}"]},
            create_desktop_user=True,
        )
        deny = role("b", deny={"desktop_groups": ["ADMINS"]})
        assert desktop_options([yes, deny], DEV, TRAITS, only("a")).groups == ("-x", "Users", "a b", "docker")
        clear = role("b", deny={"desktop_groups": ["*"]})
        assert desktop_options([yes, clear], DEV, TRAITS).groups == ()


class TestDatabase:
    @pytest.mark.parametrize(
        ("options", "on", "expected"),
        [
            ([{"create_db_user_mode": "keep"}], "abc", "keep"),
            ([{"create_db_user_mode": m} for m in ("off", "keep")], "abc", "keep"),
            ([{"create_db_user_mode": m} for m in ("best_effort_drop", "keep")], "abc", "best_effort_drop"),
            ([{"create_db_user_mode": m} for m in ("best_effort_drop", "keep")], "b", "keep"),
            ([{}, {"create_db_user": True}], "abc", "keep"),
            ([{"create_db_user": True, "create_db_user_mode": "off"}], "abc", "off"),
            ([{}], "abc", "off"),
            ([{"create_db_user_mode": "keep"}], "", "off"),
        ],
    )
    def test_mode(self, options: list[dict[str, Any]], on: str, expected: str) -> None:
        roles = [role(n, {"db_labels": DEV}, **found) for n, found in zip("abc", options, strict=False)]
        for order in permutations(roles):
            assert db_user(order, DEV, {}, only(*on)).mode == expected
            assert db_user(order, {"env": "prod"}, {}, only(*on)).mode == "off"

    def test_roles_of_those_that_enable_it_minus_deny(self) -> None:
        roles = [
            role(
                "a", {"db_labels": DEV, "db_roles": ["reader", "*", "{{external.star}}"]}, create_db_user=True
            ),
            role("b", {"db_labels": DEV, "db_roles": ["owner"]}),
            role("c", {"db_labels": STAR, "db_roles": ["writer", "x\ny"]}, create_db_user_mode="keep"),
        ]
        assert db_user(roles, DEV, {"star": ("*",)}).roles == ("reader", "writer")
        deny = role("d", deny={"db_roles": ["writer"]})
        assert db_user([*roles, deny], DEV, {}, only("a", "b", "c")).roles == ("reader",)
        assert db_user([*roles, role("d", deny={"db_roles": ["*"]})], DEV, {}).roles == ()

    def test_a_user_chooses_among_them(self) -> None:
        user = DbUser("keep", ("reader", "writer"))
        assert chosen_db_roles(user, []) == ("reader", "writer")
        assert chosen_db_roles(user, ["writer", "writer"]) == ("writer",)
        with pytest.raises(DeniedError, match="owner"):
            chosen_db_roles(user, ["reader", "owner"])


HOST_MODES = st.sampled_from(["", "off", "keep", "insecure-drop"])
DB_MODES = st.sampled_from(["", "off", "keep", "best_effort_drop"])
NAMES = st.lists(st.sampled_from(["p", "q", "s"]), max_size=2, unique=True)
MAKERS = st.lists(
    st.tuples(st.booleans(), HOST_MODES, DB_MODES, st.booleans(), NAMES, NAMES, st.booleans()), max_size=4
)


@given(MAKERS)
@settings(max_examples=200)
def test_against_a_naive_reading(drawn: list[Any]) -> None:
    """Matches the labels?, modes, desktop?, what it gives, what it denies, in force?"""
    roles = []
    for i, (matches, host, db, desk, gives, denies, _) in enumerate(drawn):
        labels = DEV if matches else {"env": "prod"}
        fields = ("node_labels", "db_labels", "windows_desktop_labels")
        lists = ("host_groups", "host_sudoers", "db_roles", "desktop_groups")
        roles.append(
            role(
                f"r{i}",
                {**dict.fromkeys(fields, labels), **dict.fromkeys(lists, gives)},
                dict.fromkeys(lists, denies),
                create_host_user_mode=host,
                create_db_user_mode=db,
                create_desktop_user=desk,
            )
        )
    on = only(*(f"r{i}" for i, found in enumerate(drawn) if found[6]))
    here = [found for found in drawn if found[0]]
    denied = {name for found in here for name in found[5]}

    giving = [found for found in here if found[6]]
    refused = not giving or any(found[1] in ("", "off") for found in here)
    user = host_user(roles, DEV, {}, on)
    assert (user.mode == "off") is refused
    if not refused:
        assert user.mode == ("keep" if any(f[1] == "keep" for f in giving) else "insecure-drop")
        named = [name for found in giving for name in found[4] if name not in denied]
        assert set(user.groups) == set(named)
        assert user.sudoers == tuple(dict.fromkeys(named))

    makers = [found for found in giving if found[2] not in ("", "off")]
    database = db_user(roles, DEV, {}, on)
    modes = {found[2] for found in makers}
    best = "best_effort_drop" if "best_effort_drop" in modes else "keep" if modes else "off"
    assert database.mode == best
    assert set(database.roles) == {name for found in makers for name in found[4]} - denied

    desk_user = desktop_options(roles, DEV, {}, on)
    assert desk_user.create_user is (bool(giving) and all(found[3] for found in here))
    if desk_user.create_user:
        assert set(desk_user.groups) == {name for found in giving for name in found[4]} - denied
