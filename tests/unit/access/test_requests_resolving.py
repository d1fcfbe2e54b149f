"""Who may review, and what reviews amount to; beside a second, simple-minded calculation."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.requests.resolving import outcome, reviewed
from pkgs.common.access.requests.reviewing import Reviewer
from pkgs.common.access.types import Environment
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.resources.kinds.requests import AccessRequestSpec, IndexSet, Review, RoleThresholds
from pkgs.common.resources.role import Threshold
from tests.harness.examples import examples
from tests.unit.access.requests_roles import role

ENV = Environment(now=1_800_000_000.0)


def request(
    *thresholds: Threshold, sets: dict[str, list[list[int]]] | None = None, **fields: Any
) -> AccessRequestSpec:
    found = thresholds or (Threshold(name="default"),)
    sets = {"ops": [[0]]} if sets is None else sets
    rtm = {name: RoleThresholds(sets=[IndexSet(indexes=i) for i in each]) for name, each in sets.items()}
    return AccessRequestSpec(
        **{"user": "dora", "roles": list(sets), "thresholds": list(found), "rtm": rtm, **fields}
    )


def reviewer(name: str = "lena", **review: Any) -> Reviewer:
    return Reviewer.of(
        name, [role("lead", allow={"review": {"roles": ["*"], **review}})], {"team": ("blue",)}, ENV
    )


def review(author: str = "lena", state: Any = "APPROVED", **fields: Any) -> Review:
    return Review(author=author, proposed_state=state, **fields)


class TestWhoMayReview:
    def test_every_role_must_be_allowed(self) -> None:
        both = request(sets={"ops": [[0]], "dba": [[0]]})
        assert reviewer().refusal(both) == ""
        assert "dba" in reviewer(roles=["ops"]).refusal(both)
        two = [
            role("a", allow={"review": {"roles": ["ops"]}}),
            role("b", allow={"review": {"roles": ["dba"]}}),
        ]
        assert Reviewer.of("lena", two, {}, ENV).refusal(both) == ""
        assert Reviewer.of("lena", [], {}, ENV).refusal(both)
        assert reviewer().refusal(request(sets={}))

    def test_a32_not_ones_own(self) -> None:
        assert "own request" in reviewer("dora").refusal(request())

    @pytest.mark.parametrize(
        "deny",
        [
            {"roles": ["ops"]},
            {"roles": ['{{regexp.match("p")}}']},
            {"roles": ["*"], "where": 'request.reason == "x"'},
            {"claims_to_roles": [{"claim": "team", "value": "b*", "roles": ["ops"]}]},
        ],
    )
    def test_a_deny_wins(self, deny: dict[str, Any]) -> None:
        allow = role("yes", allow={"review": {"roles": ["*"]}})
        for roles in ([allow, role("no", deny={"review": deny})], [role("no", deny={"review": deny}), allow]):
            assert "denies" in Reviewer.of("lena", roles, {"team": ("blue",)}, ENV).refusal(
                request(request_reason="x")
            )

    @pytest.mark.parametrize(
        ("where", "holds"),
        [
            ('contains(reviewer.roles, "lead")', True),
            ('contains(reviewer.traits["team"], "blue")', True),
            ('contains(request.roles, "ops") && request.reason == "x"', True),
            ('contains(request.system_annotations["team"], "red")', True),
            ('contains_any(request.system_annotations["team"], reviewer.traits["team"])', False),
            ('request.reason == "y"', False),
            ('has_prefix(request.reason, "")', False),
            ('!has_prefix(request.reason, "")', False),
        ],
    )
    def test_where(self, where: str, holds: bool) -> None:
        of = request(request_reason="x", system_annotations={"team": ["red"]})
        assert (reviewer(where=where).refusal(of) == "") is holds

    def test_what_cannot_be_answered_denies(self) -> None:
        allow = role("yes", allow={"review": {"roles": ["*"]}})
        no = role("no", deny={"review": {"roles": ["*"], "where": 'has_prefix(request.reason, "")'}})
        assert "denies" in Reviewer.of("lena", [allow, no], {}, ENV).refusal(request())

    def test_hours_and_networks_of_a_role_count(self) -> None:
        static = [
            role("yes", allow={"review": {"roles": ["*"]}, "from": ["10.0.0.0/8"]}),
            role("no", deny={"review": {"roles": ["*"]}, "from": ["10.6.0.0/16"]}),
        ]
        for addr, may in (("10.5.0.1", True), ("10.6.0.1", False), ("192.0.2.1", False), ("", False)):
            env = Environment(now=ENV.now, source_addr=addr)
            assert (Reviewer.of("lena", static, {}, env).refusal(request()) == "") is may


class TestReviews:
    def test_one_approval_of_the_usual_threshold(self) -> None:
        after = reviewed(request(), review(reason="ok"), reviewer())
        assert (after.state, after.resolve_reason) == ("APPROVED", "ok")
        assert after.reviews[0].threshold_indexes == [0]
        assert reviewed(request(), review(state="DENIED", reason="no"), reviewer()).resolve_reason == "no"

    @pytest.mark.parametrize(
        ("of", "given_", "by", "text"),
        [
            ({"state": "DENIED"}, {}, {}, "DENIED already"),
            ({"state": "PROMOTED"}, {}, {}, "PROMOTED already"),
            ({}, {"author": "otto"}, {}, "own name"),
            ({"user": "lena"}, {}, {}, "may not review"),
            ({}, {}, {"roles": ["dba"]}, "may not review"),
            ({"reviews": [review()]}, {}, {}, "reviewed this request already"),
            ({}, {"state": "PENDING"}, {}, "approves or denies"),
            ({}, {"state": "PROMOTED"}, {}, "approves or denies"),
            ({}, {"roles": ["ops"]}, {}, "whole request"),
            ({}, {"annotations": {"a": ["b"]}}, {}, "whole request"),
            ({"reviews": [review(str(n)) for n in range(200)]}, {}, {}, "200 reviews"),
        ],
    )
    def test_a32_what_is_no_review(self, of: Any, given_: Any, by: Any, text: str) -> None:
        with pytest.raises(AccessError, match=text):
            reviewed(request(**of), review(**given_), reviewer(**by))

    def test_filters(self) -> None:
        seniors = Threshold(name="seniors", filter='contains(reviewer.roles, "senior")')
        words = Threshold(name="words", approve=2, filter='review.reason == "checked"')
        unsure = Threshold(name="unsure", filter='has_prefix(review.reason, "")', approve=1, deny=2)
        of = request(seniors, words, unsure, sets={"ops": [[0, 1, 2]]})
        first = reviewed(of, review(reason="checked"), reviewer())
        assert (first.state, first.reviews[0].threshold_indexes) == ("PENDING", [1])
        denied = reviewed(first, review("otto", "DENIED"), reviewer("otto"))
        assert (denied.state, denied.reviews[1].threshold_indexes) == ("PENDING", [2])
        assert reviewed(denied, review("mia", "DENIED"), reviewer("mia")).state == "DENIED"
        senior = Reviewer.of("sam", [role("senior", allow={"review": {"roles": ["*"]}})], {}, ENV)
        assert reviewed(first, review("sam"), senior).state == "APPROVED"

    def test_every_set_of_every_role(self) -> None:
        one, two = Threshold(name="one"), Threshold(name="two", approve=2, deny=0)
        of = request(one, two, sets={"ops": [[0], [1]], "dba": [[0]]})
        first = reviewed(of, review(), reviewer())
        assert first.state == "PENDING"
        assert reviewed(first, review("otto"), reviewer("otto")).state == "APPROVED"

    def test_a_zero_decides_nothing(self) -> None:
        never = request(Threshold(name="deny only", approve=0, deny=1))
        assert reviewed(never, review(), reviewer()).state == "PENDING"
        no = request(Threshold(name="approve only", approve=5, deny=0))
        assert reviewed(no, review(state="DENIED"), reviewer()).state == "PENDING"

    @pytest.mark.parametrize(
        "broken",
        [
            {"rtm": {}},
            {"rtm": {"ops": RoleThresholds(sets=[])}},
            {"rtm": {"ops": RoleThresholds(sets=[IndexSet(indexes=[])])}},
            {"rtm": {"ops": RoleThresholds(sets=[IndexSet(indexes=[1])])}},
            {"rtm": {"ops": RoleThresholds(sets=[IndexSet(indexes=[-1])])}},
            {"rtm": {"dba": RoleThresholds(sets=[IndexSet(indexes=[0])])}},
            {"roles": []},
        ],
    )
    def test_a_broken_map_approves_nothing(self, broken: Any) -> None:
        approved = msgspec.structs.replace(request(reviews=[review(threshold_indexes=[0])]), **broken)
        assert outcome(approved) == "PENDING"


def naive(of: AccessRequestSpec) -> str:
    """The rule once more, written out the long way."""
    counts: dict[tuple[str, int], int] = {}
    for found in of.reviews:
        for index in range(len(of.thresholds)):
            if index in found.threshold_indexes:
                key = (found.proposed_state, index)
                counts[key] = counts.get(key, 0) + 1
    for index, threshold in enumerate(of.thresholds):
        if threshold.deny > 0 and counts.get(("DENIED", index), 0) >= threshold.deny:
            return "DENIED"
    good_roles = 0
    for name in of.roles:
        good_sets = 0
        for each in of.rtm[name].sets:
            good = False
            for index in each.indexes:
                needed = of.thresholds[index].approve
                if needed > 0 and counts.get(("APPROVED", index), 0) >= needed:
                    good = True
            good_sets += good
        good_roles += good_sets == len(of.rtm[name].sets)
    return "APPROVED" if good_roles == len(of.roles) else "PENDING"


THRESHOLDS = st.lists(
    st.builds(Threshold, approve=st.integers(0, 3), deny=st.integers(0, 3)), min_size=1, max_size=4
)
SHAPES = THRESHOLDS.flatmap(
    lambda found: st.tuples(
        st.just(found),
        st.dictionaries(
            st.sampled_from(["ops", "dba", "web"]),
            st.lists(
                st.lists(st.integers(0, len(found) - 1), min_size=1, max_size=3), min_size=1, max_size=3
            ),
            min_size=1,
            max_size=3,
        ),
        st.lists(
            st.tuples(
                st.sampled_from(["APPROVED", "DENIED"]), st.lists(st.integers(0, len(found) - 1), max_size=4)
            ),
            max_size=4,
        ),
    )
)


@settings(max_examples=examples(300))
@given(SHAPES)
def test_the_outcome_is_the_naive_one_in_any_order(shape: Any) -> None:
    thresholds, sets, votes = shape
    reviews = [review(str(n), state, threshold_indexes=i) for n, (state, i) in enumerate(votes)]
    of = request(*thresholds, sets=sets, reviews=reviews)
    assert outcome(of) == naive(of)
    for order in permutations(reviews):
        assert outcome(msgspec.structs.replace(of, reviews=list(order))) == outcome(of)
        assert outcome(
            msgspec.structs.replace(of, roles=list(reversed(of.roles)), reviews=list(order))
        ) == outcome(of)


@settings(max_examples=examples(200))
@given(SHAPES)
def test_a_denial_never_approves_and_an_approval_never_denies(shape: Any) -> None:
    thresholds, sets, votes = shape
    of = request(*thresholds, sets=sets)
    states = []
    for number, (state, _) in enumerate(votes):
        name = str(number)
        try:
            of = reviewed(of, review(name, state), reviewer(name))
        except DeniedError:
            assert of.state != "PENDING"
            break
        states.append((state, of.state))
    for given_, after in states:
        assert after in ("PENDING", given_)
