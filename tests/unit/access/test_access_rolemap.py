"""Users of a root cluster in its leaf: mapped roles, names, traits and restrictions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.matching.traits import captures_in
from pkgs.common.access.rolemap import as_local, check_mappings, map_roles, remote_name
from pkgs.common.access.validate import validate
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, TrustedCluster, User, UserSpec
from pkgs.common.resources.kinds.clusters import RoleMapping, TrustedClusterSpec
from pkgs.common.resources.metadata import Metadata
from tests.harness.examples import examples

ROOT = Identity(
    kind=PeerKind.USER,
    name="alice",
    cluster="root.example",
    roles=("dev", "default-implicit-role"),
    traits={"logins": ("admin", "root"), "team": ("red",), "db_users": ("*",)},
    logins=("deploy", "no-login-2b8f6a3e-7c1d-4e5f-9a0b-6d3c8e1f4a72", "-teleport-internal-join"),
    expires_at=5000.0,
    source_addr="192.0.2.1",
    mfa_device="m",
    device_id="d",
    impersonator="noor",
    active_requests=("q",),
    renewable=True,
)


def mapping(*pairs: tuple[str, list[str]]) -> list[RoleMapping]:
    return [RoleMapping(remote=remote, local=local) for remote, local in pairs]


def trusted(
    *pairs: tuple[str, list[str]], name: str = "root.example", enabled: bool = True
) -> TrustedCluster:
    spec = TrustedClusterSpec(enabled=enabled, role_map=mapping(*(pairs or (("dev", ["guest"]),))))
    return TrustedCluster(metadata=Metadata(name=name), spec=spec)


def local(identity: Identity = ROOT, of: TrustedCluster | None = None, **fields: Any) -> Identity:
    given_: dict[str, Any] = {"cluster": "leaf.example", "locks": (), "now": 1000.0} | fields
    return as_local(identity, of or trusted(), **given_)


class TestMapping:
    @pytest.mark.parametrize(
        ("pairs", "remote", "expected"),
        [
            ([("dev", ["guest"])], ["dev"], ("guest",)),
            ([("dev", ["guest", "x"]), ("ops", ["guest", "y"])], ["ops", "dev"], ("guest", "x", "y")),
            ([("*", ["guest"])], ["anything"], ("guest",)),
            ([("dev-*", ["guest"])], ["dev-1", "dev", "xdev-1"], ("guest",)),
            ([("dev-*", ["local-$1"])], ["dev-1", "dev-2"], ("local-1", "local-2")),
            ([("*-*", ["$2-${1}"])], ["a-b"], ("b-a",)),
            ([("^dev-(.*)$", ["$1"])], ["dev-x"], ("x",)),
            ([("^dev-(?P<team>[a-z]+)$", ["team-${team}", "all"])], ["dev-red"], ("team-red", "all")),
            ([("^dev-(.*)$", ["$1", "x"])], ["dev-"], ("x",)),
            # The whole name, also where the anchors hold one branch each.
            ([("^dev|ops$", ["guest"])], ["dev"], ("guest",)),
            ([("dev", ["$$1"])], ["dev"], ("$1",)),
            ([("*", ["guest"])], [], ("guest",)),
            ([("*", ["guest"])], ["default-implicit-role"], ("guest",)),
            ([("^(.*)$", ["$1"])], ["Auth", "Proxy", "default-implicit-role", "dev"], ("dev",)),
        ],
    )
    def test_roles(self, pairs: Any, remote: list[str], expected: tuple[str, ...]) -> None:
        assert map_roles(remote, mapping(*pairs)) == expected

    @pytest.mark.parametrize(
        ("pairs", "remote"),
        [
            ([("dev", ["guest"])], ["developer", "Dev", "dev ", "ops"]),
            ([("^dev|ops$", ["guest"])], ["developer", "devops"]),
            ([("dev", ["guest"])], []),
            ([("^(.*)$", ["$1"])], ["Auth"]),
            ([("^dev-(.*)$", ["$1"])], ["dev-"]),
            ([("dev-*", ["guest"])], ["x\ndev-1"]),
            ([], ["dev"]),
        ],
    )
    def test_no_role(self, pairs: Any, remote: list[str]) -> None:
        with pytest.raises(DeniedError, match=r"no roles mapped for user with remote roles \["):
            map_roles(remote, mapping(*pairs))

    def test_the_error_names_the_remote_roles(self) -> None:
        with pytest.raises(DeniedError) as caught:
            map_roles(["a", "default-implicit-role", "b"], mapping(("x", ["y"])))
        assert caught.value.message == "no roles mapped for user with remote roles [a, b]"

    def test_a25_what_is_captured_is_text(self) -> None:
        pairs = mapping(("^dev-(.*)$", ["$1"]))
        hostile = ["dev-*", "dev-^.*$", "dev-$1", "dev-{{internal.logins}}"]
        assert map_roles(hostile, pairs) == ("*", "^.*$", "$1", "{{internal.logins}}")

    def test_a24_a_long_name_takes_no_long_time(self) -> None:
        with pytest.raises(DeniedError):
            map_roles(["a" * 50_000 + "!"], mapping(("^(a+)+$", ["x"])))
        with pytest.raises(InputError):
            map_roles(["a" * 50_000], mapping(("^(a+)$", ["$1"])))

    @given(st.lists(st.sampled_from(["a", "b", "ab", "x-a", "x-b"]), max_size=4), st.integers(0, 7))
    @settings(max_examples=examples(60))
    def test_against_a_naive_reading(self, remote: list[str], which: int) -> None:
        rows = [("a", ["A"]), ("x-*", ["X", "$1"]), ("^(a)(b)$", ["$2$1"])]
        chosen = [row for i, row in enumerate(rows) if which >> i & 1]
        expected: list[str] = []
        for pattern, _ in chosen:
            for name in remote:
                if pattern == "a" and name == "a":
                    expected.append("A")
                elif pattern == "x-*" and name.startswith("x-"):
                    expected += ["X", name[2:]]
                elif pattern.startswith("^") and name == "ab":
                    expected.append("ba")
        if expected:
            assert map_roles(remote, mapping(*chosen)) == tuple(dict.fromkeys(expected))
        else:
            with pytest.raises(DeniedError):
                map_roles(remote, mapping(*chosen))


class TestStored:
    @pytest.mark.parametrize(
        ("pairs", "said"),
        [
            ([("^($", ["x"])], r"role_map\[0\]\.remote: regular expression"),
            ([("ok", ["x"]), ("dev", ["$1"])], r"role_map\[1\]\.local: '\$1' asks for the capture '1'"),
            ([("dev-*", ["$2"])], "capture '2'"),
            ([("dev-*", ["$1x"])], "capture '1x'"),
            ([("^(?P<a>x)$", ["${b}"])], "capture 'b'"),
            ([("dev-*", ["$"])], "capture ''"),
            ([("dev-*", ["${1"])], "capture ''"),
            ([("dev-*", ["$²"])], "capture '²'"),
            ([("dev", ["*"])], r"'\*' is not allowed"),
            ([("dev", [])], r"local: missing"),
            ([("dev", [""])], r"local"),
            ([("", ["x"])], r"remote"),
            ([("dev", ["x"]), ("dev", ["y"])], "given twice"),
        ],
    )
    def test_what_is_refused(self, pairs: Any, said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            validate(trusted(*pairs))
        assert str(caught.value).startswith("trusted_cluster/root.example: spec.role_map")

    def test_what_is_stored(self) -> None:
        validate(trusted(("^(?P<a>x)(y)$", ["$0-$1-$2-${a}"]), ("dev-*", ["x-$1", "$$y"])))
        check_mappings([], "here")
        assert captures_in("a$$b$1${c}d$e-f") == ["1", "c", "e"]

    def test_a44_no_local_user_is_named_like_one_of_another_cluster(self) -> None:
        user = User(
            metadata=Metadata(name=remote_name("al", "root.example")), spec=UserSpec(roles=["access"])
        )
        with pytest.raises(InputError, match="users of other clusters"):
            validate(user)


class TestAsLocal:
    def test_who_they_are(self) -> None:
        found = local()
        assert found.name == "remote-alice-root.example"
        assert found.impersonator == "remote-noor-root.example"
        assert found.cluster == "root.example"
        assert found.roles == ("guest",)
        assert local(msgspec.structs.replace(ROOT, impersonator="")).impersonator == ""

    def test_traits_are_what_the_root_granted(self) -> None:
        lists = {"db_users": ["reader"], "kubernetes_groups": ["view"], "team": ["blue"]}
        found = local(certificate_lists=lists).traits
        assert found == {
            "team": ("red",),
            "logins": ("deploy",),
            "db_users": ("reader",),
            "kubernetes_groups": ("view",),
            "kubernetes_users": (),
            "db_names": (),
            "aws_role_arns": (),
        }
        assert local().traits["db_users"] == ()

    def test_every_restriction_stays(self) -> None:
        found = local()
        for name in ("expires_at", "source_addr", "mfa_device", "device_id", "active_requests", "logins"):
            assert getattr(found, name) == getattr(ROOT, name)
        assert found.disallow_reissue
        assert not found.renewable
        assert found.allowed_resources is None

    def test_a22_only_ids_of_this_cluster_are_left(self) -> None:
        ids = ("/root.example/node/x", "/leaf.example/node/y", "/leaf.example.org/node/z")
        found = local(msgspec.structs.replace(ROOT, allowed_resources=ids))
        assert found.allowed_resources == ("/leaf.example/node/y",)
        assert local(msgspec.structs.replace(ROOT, allowed_resources=ids[:1])).allowed_resources == ()
        assert local(msgspec.structs.replace(ROOT, allowed_resources=())).allowed_resources == ()

    def test_a44_who_is_refused(self) -> None:
        for identity, of in (
            (msgspec.structs.replace(ROOT, cluster="leaf.example"), trusted(name="leaf.example")),
            (msgspec.structs.replace(ROOT, cluster="other.example"), trusted()),
            (ROOT, trusted(name="other.example")),
            (ROOT, trusted(enabled=False)),
            (ROOT, trusted(("ops", ["x"]))),
            (msgspec.structs.replace(ROOT, kind=PeerKind.HOST), trusted()),
        ):
            with pytest.raises(DeniedError):
                local(identity, of)

    def test_a_mapping_that_is_not_valid_maps_nothing(self) -> None:
        with pytest.raises(DeniedError, match="no roles mapped"):
            local(of=trusted(("^($", ["x"])))

    @pytest.mark.parametrize(
        ("target", "locked"),
        [
            ({"role": "dev"}, True),
            ({"role": "ops"}, False),
            ({"user": "remote-alice-root.example"}, True),
            ({"user": "remote-noor-root.example"}, True),
            ({"user": "alice"}, False),
            ({"role": "dev", "login": "deploy"}, True),
            ({"role": "dev", "login": "other"}, False),
            ({"role": "dev", "server_id": "n1"}, True),
            ({"mfa_device": "m"}, True),
        ],
    )
    def test_locks_on_the_roles_of_the_root(self, target: dict[str, str], locked: bool) -> None:
        lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(**target), message="stop"))
        asked: dict[str, Any] = {"locks": [lock], "login": "deploy", "server_id": "n1"}
        if locked:
            with pytest.raises(DeniedError, match="stop"):
                local(**asked)
        else:
            local(**asked)
        over = msgspec.structs.replace(lock.spec, expires=datetime.fromtimestamp(10, UTC))
        local(**{**asked, "locks": [msgspec.structs.replace(lock, spec=over)]})

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "source_addr": st.sampled_from(["", "192.0.2.1"]),
                "mfa_device": st.sampled_from(["", "m"]),
                "device_id": st.sampled_from(["", "d"]),
                "impersonator": st.sampled_from(["", "noor"]),
                "allowed_resources": st.none()
                | st.lists(st.sampled_from(["/leaf.example/node/x", "/root.example/node/x"])).map(tuple),
                "active_requests": st.lists(st.sampled_from("pq")).map(tuple),
                "force_command": st.sampled_from(["", "uptime"]),
                "bot_name": st.sampled_from(["", "ci"]),
                "disallow_reissue": st.booleans(),
                "roles": st.lists(st.sampled_from(["dev", "ops", "*", "guest"]), min_size=1).map(tuple),
            },
        )
    )
    @settings(max_examples=examples(60))
    def test_nothing_is_gained_and_no_restriction_lost(self, fields: dict[str, Any]) -> None:
        before = msgspec.structs.replace(ROOT, **fields)
        try:
            after = local(before, trusted(("dev", ["a"]), ("ops", ["b"])))
        except DeniedError:
            assert not {"dev", "ops"} & set(before.roles)
            return
        assert set(after.roles) <= {"a", "b"}
        assert after.cluster == before.cluster
        assert after.disallow_reissue
        kept = ("source_addr", "mfa_device", "device_id", "active_requests", "force_command", "bot_name")
        for name in (*kept, "expires_at", "valid_after", "logins", "extensions"):
            assert getattr(after, name) == getattr(before, name)
        assert bool(after.impersonator) is bool(before.impersonator)
        if before.allowed_resources is not None:
            assert after.allowed_resources is not None
            assert set(after.allowed_resources) <= set(before.allowed_resources)
