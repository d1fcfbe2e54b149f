"""Accounts that are made for a session, on servers and on desktops."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.options.desktop import desktop_options
from pkgs.common.access.options.hostuser import NO_HOST_USER, host_user
from pkgs.common.errors import InputError
from tests.harness.examples import examples
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import only

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
            # A deny counts everywhere, one that names servers for these.
            assert host_user([maker, role("c", deny=deny)], DEV, {}, only("a")).groups == expected

    def test_a_deny_counts_everywhere_unless_it_names_servers(self) -> None:
        maker = role("a", on_dev(host_groups=["wheel"]), create_host_user_mode="keep")
        deny = {"host_groups": ["wheel"]}
        for allow, labels, counts in (
            ({"node_labels": {"env": "prod"}}, {}, True),
            ({"node_labels": {"env": "prod"}}, {"node_labels": {"env": "prod"}}, False),
            ({}, {"node_labels_expression": 'labels["env"] == "prod"'}, False),
            ({}, {"node_labels": DEV}, True),
            ({}, {"node_labels_expression": 'labels["env"] == "dev"'}, True),
        ):
            found = host_user([maker, role("b", allow, {**deny, **labels})], DEV, {})
            assert found.groups == (() if counts else ("wheel",))
        both = role("b", on_dev(), {**deny, "node_labels": {"env": "prod"}}, create_host_user_mode="keep")
        assert host_user([maker, both], DEV, {}).groups == ()

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


HOST_MODES = st.sampled_from(["", "off", "keep", "insecure-drop"])
NAMES = st.lists(st.sampled_from(["p", "q", "s"]), max_size=2, unique=True)
MAKERS = st.lists(
    st.tuples(st.booleans(), HOST_MODES, st.booleans(), NAMES, NAMES, st.booleans()), max_size=4
)


@given(MAKERS)
@settings(max_examples=examples(200))
def test_against_a_naive_reading(drawn: list[Any]) -> None:
    """Matches the labels?, mode, desktop?, what it gives, what it denies, in force?"""
    roles = []
    for i, (matches, host, desk, gives, denies, _) in enumerate(drawn):
        labels = DEV if matches else {"env": "prod"}
        lists = ("host_groups", "host_sudoers", "desktop_groups")
        roles.append(
            role(
                f"r{i}",
                {
                    **dict.fromkeys(("node_labels", "windows_desktop_labels"), labels),
                    **dict.fromkeys(lists, gives),
                },
                dict.fromkeys(lists, denies),
                create_host_user_mode=host,
                create_desktop_user=desk,
            )
        )
    on = only(*(f"r{i}" for i, found in enumerate(drawn) if found[5]))
    here = [found for found in drawn if found[0]]
    denied = {name for found in drawn for name in found[4]}

    giving = [found for found in here if found[5]]
    refused = not giving or any(found[1] in ("", "off") for found in here)
    user = host_user(roles, DEV, {}, on)
    assert (user.mode == "off") is refused
    if not refused:
        assert user.mode == ("keep" if any(f[1] == "keep" for f in giving) else "insecure-drop")
        named = [name for found in giving for name in found[3] if name not in denied]
        assert set(user.groups) == set(named)
        assert user.sudoers == tuple(dict.fromkeys(named))

    desk_user = desktop_options(roles, DEV, {}, on)
    assert desk_user.create_user is (bool(giving) and all(found[2] for found in here))
    if desk_user.create_user:
        assert set(desk_user.groups) == {name for found in giving for name in found[3]} - denied
