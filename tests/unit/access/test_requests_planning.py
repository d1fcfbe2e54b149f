"""What may be asked for, and on what terms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.requests import limits
from pkgs.common.access.requests.lifetimes import Asked
from pkgs.common.access.requests.planning import Wish, plan
from pkgs.common.access.requests.requester import Requester
from pkgs.common.access.types import Environment
from pkgs.common.access.validate import validate
from pkgs.common.errors import AccessError, DeniedError, InputError, LimitExceededError
from pkgs.common.resources.kinds.requests import AccessRequestSpec, ResourceId
from pkgs.common.resources.role import Role, Threshold
from tests.harness.examples import examples
from tests.unit.access.requests_roles import asks, role

NOW = 1_800_000_000.0
ENV = Environment(now=NOW)
OPS, DBA = role("ops", max_session_ttl="2h"), role("dba")
WEB1 = ResourceId(cluster="demo", kind="node", name="web1")
DB1 = ResourceId(cluster="demo", kind="node", name="db1")
OPENS = {("ops", "web1"), ("dba", "db1"), ("dba", "web1")}


def planned(
    *static: Role, traits: dict[str, tuple[str, ...]] | None = None, left: float = 12 * 3600, **wish: Any
) -> AccessRequestSpec:
    asked = Asked(**wish.pop("asked", {}))
    return plan(
        Wish(**wish, asked=asked),
        Requester.of("dora", static, traits or {}, ENV),
        {r.name for r in static},
        {r.name: r for r in (OPS, DBA, *static)},
        lambda name, resource: (name, resource.name) in OPENS,
        now=NOW,
        remaining_s=left,
    )


def seconds(spec: AccessRequestSpec) -> tuple[float, float, float]:
    """Of waiting, of a session, of the access."""
    assert spec.expires and spec.session_ttl and spec.max_duration
    return tuple(when.timestamp() - NOW for when in (spec.expires, spec.session_ttl, spec.max_duration))  # type: ignore[return-value]


class TestRoles:
    def test_named_ones(self) -> None:
        spec = planned(asks("dev", "ops"), roles=["ops", "ops"])
        assert (spec.user, spec.roles, spec.state) == ("dora", ["ops"], "PENDING")
        assert spec.thresholds == [Threshold(name="default", approve=1, deny=1)]

    @pytest.mark.parametrize("wanted", [["dba"], ["nope"], ["ops", "dba"], ["*", "ops"], ["OPS"]])
    def test_others_are_refused(self, wanted: list[str]) -> None:
        with pytest.raises(DeniedError, match='user "dora" can not request role'):
            planned(asks("dev", "ops"), roles=wanted)

    def test_all_that_are_lacked_and_allowed(self) -> None:
        assert planned(asks("dev", "*"), roles=["*"]).roles == ["dba", "ops"]
        with pytest.raises(DeniedError, match="no role"):
            planned(asks("dev", "x*"), roles=["*"])

    @pytest.mark.parametrize(
        "deny",
        [
            {"roles": ["ops"]},
            {"roles": ["o*"]},
            {"roles": ['{{regexp.match("p")}}']},
            {"roles": ['{{regexp.not_match("xops")}}']},
            {"claims_to_roles": [{"claim": "team", "value": "*", "roles": ["ops"]}]},
        ],
    )
    def test_a_deny_wins(self, deny: dict[str, Any]) -> None:
        no = role("no", deny={"request": deny})
        for static in ((asks("dev", "*"), no), (no, asks("dev", "*"))):
            with pytest.raises(DeniedError):
                planned(*static, roles=["ops"], traits={"team": ("blue",)})
        searcher = role("s", allow={"request": {"search_as_roles": ["ops"]}})
        assert Requester.of("dora", [searcher, no], {"team": ("blue",)}, ENV).search_roles() == ()

    def test_by_claim(self) -> None:
        dev = asks("dev", claims_to_roles=[{"claim": "team", "value": "team-*", "roles": ["$1"]}])
        assert planned(dev, roles=["ops"], traits={"team": ("team-ops",)}).roles == ["ops"]
        with pytest.raises(DeniedError):
            planned(dev, roles=["ops"], traits={"team": ("team-*",)})

    def test_an_allow_for_another_namespace_allows_nothing(self) -> None:
        away = role("away", allow={"namespaces": ("other",), "request": {"roles": ["ops"]}})
        with pytest.raises(DeniedError):
            planned(away, roles=["ops"])

    def test_what_is_not_understood_refuses_everything(self) -> None:
        for bad in (
            {"roles": ["{{x}}"]},
            {"thresholds": [{"filter": "nope("}]},
            {"annotations": {"a": ["{{x}}"]}},
        ):
            with pytest.raises(InputError, match=r"role bad: deny\.request"):
                planned(asks("dev", "ops"), role("bad", deny={"request": bad}), roles=["ops"])

    def test_hours_and_networks_of_a_role_count(self) -> None:
        """An allow counts only where its conditions hold for certain, a deny unless they do not."""
        allow = {"request": {"roles": ["ops"]}, "from": ["10.0.0.0/8"]}
        deny = {"request": {"roles": ["ops"]}, "from": ["10.6.0.0/16"]}
        static = [role("yes", allow=allow), role("no", deny=deny)]
        for addr, may in (("10.5.0.1", True), ("10.6.0.1", False), ("192.0.2.1", False), ("", False)):
            env = Environment(now=NOW, source_addr=addr)
            assert Requester.of("dora", static, {}, env).may_request("ops") is may
        always = role("yes", allow={"request": {"roles": ["ops"]}})
        for addr, may in (("10.5.0.1", True), ("10.6.0.1", False), ("", False)):
            env = Environment(now=NOW, source_addr=addr)
            assert Requester.of("dora", [always, static[1]], {}, env).may_request("ops") is may
        never = role(
            "never", allow={"request": {"roles": ["ops"]}, "when": [{"days": ["sat"], "timezone": "UTC"}]}
        )
        assert not Requester.of("dora", [never], {}, ENV).may_request("ops")


class TestResources:
    SEARCHER = role("s", allow={"request": {"search_as_roles": ["ops", "dba", "gone"]}})

    def test_roles_are_found_by_what_they_open(self) -> None:
        assert planned(self.SEARCHER, resources=[WEB1]).roles == ["ops", "dba"]
        spec = planned(self.SEARCHER, resources=[DB1, DB1])
        assert (spec.roles, spec.resource_ids) == (["dba"], [DB1])

    def test_every_resource_must_be_opened(self) -> None:
        for roles, resources in (
            (["ops"], [WEB1, DB1]),
            ([], [ResourceId(cluster="demo", kind="node", name="x")]),
        ):
            with pytest.raises(DeniedError, match="can not request node"):
                planned(self.SEARCHER, roles=roles, resources=resources)

    def test_a_role_to_request_is_none_to_search_as(self) -> None:
        with pytest.raises(DeniedError, match='role "ops"'):
            planned(asks("dev", "ops"), roles=["ops"], resources=[WEB1])
        with pytest.raises(DeniedError, match='role "ops"'):
            planned(self.SEARCHER, roles=["ops"])

    def test_names_to_search_as_are_no_patterns_unless_denied(self) -> None:
        star = role("s", allow={"request": {"search_as_roles": ["*"]}})
        with pytest.raises(DeniedError):
            planned(star, resources=[WEB1])
        no = role("no", deny={"request": {"search_as_roles": ["*"]}})
        with pytest.raises(DeniedError):
            planned(self.SEARCHER, no, resources=[WEB1])


class TestTerms:
    def test_every_role_that_matches_brings_a_set(self) -> None:
        two = {"name": "two", "approve": 2, "deny": 1}
        one = {"name": "one", "approve": 1, "deny": 1}
        static = (
            asks("a", "ops", thresholds=[two]),
            asks("b", "o*", thresholds=[one, two]),
            asks("c", "dba"),
            role("d", allow={"request": {"search_as_roles": ["ops"], "thresholds": [one]}}),
        )
        spec = planned(*static, roles=["ops", "dba"])
        assert [t.name for t in spec.thresholds] == ["two", "one", "default"]
        assert {name: [s.indexes for s in found.sets] for name, found in spec.rtm.items()} == {
            "ops": [[0], [0, 1], [1]],
            "dba": [[2]],
        }

    def test_there_is_a_limit(self) -> None:
        many = [{"name": str(n), "approve": 1, "deny": 1} for n in range(limits.MAX_THRESHOLDS + 1)]
        with pytest.raises(LimitExceededError, match="thresholds"):
            planned(asks("a", "ops", thresholds=many), roles=["ops"])

    def test_annotations_of_allows_without_those_of_denies(self) -> None:
        a = asks("a", "ops", annotations={"team": ["{{external.team}}", "all"], "x": ["1"]})
        b = role("b", deny={"request": {"annotations": {"x": ["1"], "team": ["all"]}}})
        spec = planned(a, b, roles=["ops"], traits={"team": ("blue", "red")})
        assert spec.system_annotations == {"team": ["blue", "red"]}

    def test_reviewers(self) -> None:
        a = asks("a", "ops", suggested_reviewers=["lena", "otto"])
        b = role("b", deny={"request": {"suggested_reviewers": ["otto"]}})
        assert planned(a, b, roles=["ops"]).suggested_reviewers == ["lena"]
        assert planned(a, b, roles=["ops"], reviewers=["mia", "mia"]).suggested_reviewers == ["mia"]

    @pytest.mark.parametrize(
        ("static", "needed"),
        [
            ((asks("a", "ops"),), False),
            ((asks("a", "ops", reason={"mode": "required", "prompt": "Ticket?"}),), True),
            ((asks("a", "ops"), asks("b", "dba", reason={"mode": "required"})), False),
            ((asks("a", "ops"), role("b", request_access="reason")), True),
            ((asks("a", "ops"), role("b", request_access="always")), False),
        ],
    )
    def test_reasons(self, static: tuple[Role, ...], needed: bool) -> None:
        for blank in ("", " \n\t"):
            if needed:
                with pytest.raises(InputError, match="needs a reason"):
                    planned(*static, roles=["ops"], reason=blank)
            else:
                assert planned(*static, roles=["ops"], reason=blank).request_reason == ""
        assert planned(*static, roles=["ops"], reason=" T-1 ").request_reason == "T-1"
        assert planned(*static, roles=["ops"], dry_run=True).dry_run


class TestTimes:
    def test_the_usual(self) -> None:
        assert seconds(planned(asks("a", "dba"), roles=["dba"])) == (3600, 12 * 3600, 12 * 3600)
        assert seconds(planned(asks("a", "ops"), roles=["ops"])) == (3600, 7200, 7200)
        assert seconds(planned(asks("a", "ops"), roles=["ops"], left=600.9)) == (600, 600, 600)
        assert seconds(planned(asks("a", "dba"), roles=["dba"], left=1e9)) == (3600, 30 * 3600, 30 * 3600)

    def test_what_is_asked_for(self) -> None:
        ops = asks("a", "ops")
        assert seconds(planned(ops, roles=["ops"], asked={"session_s": 1800, "pending_s": 1000})) == (
            1000, 1800, 1800,
        )  # fmt: skip
        assert seconds(planned(ops, roles=["ops"], asked={"session_s": 1800})) == (1800, 1800, 1800)
        assert seconds(planned(ops, roles=["ops"], asked={"session_s": 1e9}))[1:] == (7200, 7200)
        for more in ({"pending_s": 7201}, {"duration_s": 7201}):
            with pytest.raises(InputError, match="at most 2h"):
                planned(ops, roles=["ops"], asked=more)

    def test_longer_than_a_session_where_roles_allow_it(self) -> None:
        long = asks("a", "ops", "dba", max_duration="7d")
        spec = planned(long, roles=["ops"], asked={"duration_s": 6 * 86400})
        assert seconds(spec) == (3600, 7200, 6 * 86400)
        assert seconds(planned(long, roles=["ops"]))[2] == 7200
        with pytest.raises(InputError, match="at most 168h"):
            planned(long, roles=["ops"], asked={"duration_s": 8 * 86400})
        # The shortest that concerns a role, and every role must have one.
        with pytest.raises(InputError, match="at most 24h"):
            planned(long, asks("b", "ops", max_duration="1d"), roles=["ops"], asked={"duration_s": 2 * 86400})
        with pytest.raises(InputError, match="at most 2h"):
            planned(asks("a", "ops", max_duration="7d"), asks("b", "dba"), roles=["ops", "dba"],
                    asked={"duration_s": 86400})  # fmt: skip

    def test_a_beginning_within_the_access(self) -> None:
        ops = asks("a", "ops")
        spec = planned(ops, roles=["ops"], asked={"start": NOW + 60})
        assert spec.assume_start_time is not None and spec.assume_start_time.timestamp() == NOW + 60
        assert planned(ops, roles=["ops"], asked={"start": NOW - 60}).assume_start_time is None
        with pytest.raises(InputError, match="begin after its end"):
            planned(ops, roles=["ops"], asked={"start": NOW + 7200})

    @pytest.mark.parametrize("field", ["pending_s", "session_s", "duration_s", "start"])
    def test_nothing_is_negative(self, field: str) -> None:
        with pytest.raises(InputError, match="positive"):
            planned(asks("a", "ops"), roles=["ops"], asked={field: -1})

    def test_an_expired_certificate_asks_for_nothing(self) -> None:
        with pytest.raises(DeniedError, match="expired"):
            planned(asks("a", "ops"), roles=["ops"], left=0.5)


@pytest.mark.parametrize(
    "wish",
    [
        {"roles": ["ops"] * 101},
        {"resources": [WEB1] * 201},
        {"roles": ["ops"], "reviewers": ["x"] * 101},
        {"roles": ["ops"], "reason": "x" * 4097},
        {"resources": [ResourceId(cluster="demo", kind="node", name="x" * 1000 + str(n)) for n in range(30)]},
    ],
)
def test_a32_sizes(wish: dict[str, Any]) -> None:
    with pytest.raises(LimitExceededError):
        planned(asks("a", "*"), **wish)


@pytest.mark.parametrize(
    ("conditions", "place"),
    [
        ({"request": {"roles": ["{{x}}"]}}, "request.roles"),
        ({"request": {"claims_to_roles": [{"claim": "a", "value": "^($", "roles": ["x"]}]}}, "to_roles"),
        ({"request": {"thresholds": [{"filter": "reviewer.rolls == x"}]}}, r"thresholds\[0\].filter: at"),
        ({"request": {"annotations": {"a": ["{{"]}}}, "annotations.a"),
        ({"review": {"roles": ["x"], "where": "review.reason == \"\""}}, "where: at character"),
        ({"review": {"roles": ["{{x}}"]}}, "review_requests.roles"),
    ],
)  # fmt: skip
def test_mistakes_are_found_when_a_role_is_stored(conditions: dict[str, Any], place: str) -> None:
    for side in ("allow", "deny"):
        with pytest.raises(InputError, match=place):
            validate(role("bad", **{side: conditions}))


NAMES = st.sampled_from(["ops", "dba", "o*", "*", "^d.*$", '{{regexp.not_match("o")}}'])
STATIC = st.lists(
    st.builds(
        lambda number, allow, deny, thresholds: role(
            f"r{number}",
            allow={"request": {"roles": allow, "thresholds": thresholds}},
            deny={"request": {"roles": deny}},
        ),
        st.integers(0, 3),
        st.lists(NAMES, max_size=2),
        st.lists(NAMES, max_size=1),
        st.lists(
            st.builds(lambda a, d: {"approve": a, "deny": d}, st.integers(1, 2), st.integers(1, 2)),
            max_size=2,
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=examples(150))
@given(
    STATIC, st.permutations([0, 1, 2, 3]), st.lists(st.sampled_from(["ops", "dba"]), min_size=1, max_size=2)
)
def test_the_order_of_roles_does_not_matter(static: list[Role], order: list[int], wanted: list[str]) -> None:
    """The same requests are allowed, on terms that mean the same."""

    def meaning(roles: list[Role]) -> object:
        try:
            spec = planned(*roles, roles=wanted)
        except AccessError as error:
            return type(error), error.message
        return {
            name: {frozenset(spec.thresholds[i] for i in s.indexes) for s in found.sets}
            for name, found in spec.rtm.items()
        }

    shuffled = [static[i] for i in order if i < len(static)]
    assert meaning(static) == meaning(shuffled)


@settings(max_examples=examples(150))
@given(STATIC, NAMES, st.sampled_from(["ops", "dba"]))
def test_one_more_deny_never_allows(static: list[Role], denied: str, wanted: str) -> None:
    more = [*static, role("no", deny={"request": {"roles": [denied]}})]
    before, after = (Requester.of("dora", roles, {}, ENV).may_request(wanted) for roles in (static, more))
    assert before or not after
