"""Files of policy tests: what they ask, what makes one fail, and what is refused as malformed."""

# Tables, a test a line.
# ruff: noqa: E501

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.policytests import limits, suite
from pkgs.common.access.policytests.reading import Place, Placed, parse
from pkgs.common.access.policytests.run import Outcome, run
from pkgs.common.access.policytests.suite import build
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_documents
from tests.harness.examples import examples

WORLD = """
presets: true
cluster: demo
roles:
  - kind: role
    version: v7
    metadata: {name: dev}
    spec: {allow: {logins: [root, '{{internal.logins}}'], node_labels: {env: dev}, kubernetes_labels: {'*': '*'}, kubernetes_groups: [g]}}
  - {kind: role, version: v7, metadata: {name: strict}, spec: {options: {require_session_mfa: yes}, allow: {logins: [root], node_labels: {env: prod}}}}
  - {kind: role, version: v7, metadata: {name: no-vault}, spec: {deny: {node_labels: {vault: yes}}}}
  - {kind: role, version: v7, metadata: {name: night}, spec: {allow: {when: [{hours: '22:00-23:00'}]}}}
users:
  alice: {roles: [dev, strict, no-vault], traits: {logins: [alice]}}
  bob: {roles: [access]}
resources:
  nodes:
    web1: {labels: {env: dev}, id: one}
    web2: {labels: {env: prod}}
    safe: {labels: {env: dev, vault: 'yes'}}
  kube_clusters: {k1: {}}
"""


def outcomes(tests: str, world: str = WORLD, documents: Sequence[Placed] = ()) -> list[Outcome]:
    return list(run(build(parse(f"{world}\ntests:\n{tests}", "t.yaml"), documents), lambda: 0.0))


def problems(tests: str, world: str = WORLD) -> tuple[str, ...]:
    """What one test has against its case."""
    (found,) = outcomes(tests, world)
    return found.problems


@pytest.mark.parametrize(
    "test",
    [
        "{user: alice, action: ssh root@web1, expect: allowed, by: dev, because: allow.logins}",
        "{user: alice, action: ssh root@one, expect: allowed}",
        "{user: alice, action: ssh root@web2, expect: denied, by: strict, needs: [mfa]}",
        "{user: alice, action: ssh root@web2, expect: allowed, mfa: true}",
        "{user: alice, action: ssh root@safe, expect: denied, by: no-vault, missing: ['remove from deny.node_labels']}",
        "{user: alice, action: ssh nobody@web1, expect: denied, needs: []}",
        "{user: alice, logins: [alice, root]}",
        "{user: alice, action: kube k1, expect: allowed, principals: {kubernetes_groups: [g], kubernetes_users: []}}",
        "{user: alice, roles: [access], action: ssh alice@web2, expect: allowed}",
        "{roles: [dev], traits: {logins: [x]}, logins: [x, root]}",
        "{roles: [], action: resource node list, expect: allowed, by: default-implicit-role}",
        "{user: bob, action: resource role read dev, expect: denied}",
    ],
)
def test_a_test_that_holds(test: str) -> None:
    assert problems(f"- {test}") == ()


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("{user: alice, action: ssh root@web1, expect: denied}", "expected denied, found allowed"),
        ("{user: bob, action: ssh root@web1, expect: allowed}", "expected allowed, found denied"),
        ("{user: alice, action: ssh root@web1, expect: allowed, by: strict}", "to be allowed by role strict"),
        ("{user: alice, action: ssh root@safe, expect: denied, by: dev}", "to be denied by role dev"),
        (
            "{user: alice, action: ssh root@web1, expect: allowed, because: deny.logins}",
            "because 'deny.logins'",
        ),
        ("{user: alice, action: ssh root@web2, expect: denied, needs: [device]}", "needs device, found mfa"),
        ("{user: alice, action: ssh root@web2, expect: denied, needs: []}", "needs none, found mfa"),
        (
            "{user: alice, action: ssh root@safe, expect: denied, missing: [allow.logins]}",
            "to miss 'allow.logins'",
        ),
        ("{user: alice, logins: [alice]}", "logins alice, found alice, root"),
        ("{user: bob, logins: [bob]}", "logins bob, found none"),
        (
            "{user: alice, action: kube k1, expect: allowed, principals: {kubernetes_groups: [h]}}",
            "kubernetes_groups h, found g",
        ),
    ],
)
def test_a_test_that_fails_says_what_was_expected(test: str, problem: str) -> None:
    (found,) = outcomes(f"- {test}")
    assert len(found.problems) == 1 and problem in found.problems[0]
    assert (found.told is None) is (found.case.target is None)


def test_a_failure_tells_the_story_of_explain() -> None:
    (found,) = outcomes("- {user: alice, action: ssh deploy@web1, expect: allowed}")
    assert found.told is not None
    assert found.told.lines() == [
        "denied: alice, ssh deploy@web1",
        "  login is not among the certificate's principals",
        "roles of alice: dev, strict, no-vault",
        "  role dev allows the labels but not the login deploy",
        "  role strict allows neither the labels (env=dev) nor the login deploy",
        "  role no-vault allows neither the labels (env=dev) nor the login deploy",
        "missing:",
        "  role dev: add to allow.logins: deploy",
    ]


def test_who_decides_does_not_depend_on_the_order_of_roles() -> None:
    world = WORLD.replace("[dev, strict, no-vault]", "[dev, copy]").replace(
        "roles:\n",
        "roles:\n  - {kind: role, version: v7, metadata: {name: copy},"
        " spec: {allow: {logins: [root], node_labels: {env: dev}}}}\n",
        1,
    )
    for role in ("dev", "copy"):
        test = f"- {{user: alice, action: ssh root@web1, expect: allowed, by: {role}}}"
        assert problems(test, world) == ()
    assert problems("- {user: alice, action: ssh root@web1, expect: allowed, by: strict}", world)


def test_users_times_actions_times_resources() -> None:
    found = outcomes("- {name: n, users: ['*'], actions: [ssh root@*, kube k1], labels: {}, expect: denied}")
    assert len(found) == 2 * (3 + 1)
    assert found[0].case.name == "n [alice: ssh root@* (safe)]"
    chosen = outcomes("- {user: bob, action: ssh root@*, labels: {env: dev}, expect: denied}")
    assert [one.case.text for one in chosen] == ["ssh root@* (safe)", "ssh root@* (web1)"]


def test_what_does_not_depend_on_the_time_needs_none() -> None:
    with pytest.raises(InputError, match=r"t\.yaml:\d+: tests\[0\]: role night counts at some hours only"):
        outcomes("- {roles: [night], action: ssh root@web1, expect: denied}")
    lock = WORLD + "locks: [{target: {user: eve}, expires: 2026-01-01T00:00:00Z}]\n"
    with pytest.raises(InputError, match="lock lock-1 runs out"):
        outcomes("- {user: bob, action: ssh root@web1, expect: denied}", lock)
    timed = WORLD + "defaults: {at: 2026-01-05T22:30:00Z}\n"
    assert problems("- {roles: [night], action: ssh root@web1, expect: denied}", timed) == ()


def test_documents_of_files_and_a_place_for_each() -> None:
    text = "kind: user\nversion: v2\nmetadata: {name: doc}\nspec: {roles: [dev], traits: {logins: [d]}}"
    documents = [Placed(resource, Place("u.yaml")) for resource in load_documents(text)]
    (found,) = outcomes("- {user: doc, logins: [d, root]}", documents=documents)
    assert found.passed
    twice = [*documents, *[Placed(resource, Place("v.yaml")) for resource in load_documents(text)]]
    with pytest.raises(InputError, match=r"v\.yaml: user 'doc' is also defined in u\.yaml"):
        outcomes("- {user: doc, logins: []}", documents=twice)


def test_a_dump_of_a_cluster_is_taken_as_it_is() -> None:
    """It has an authority of each type, all called like the cluster."""
    text = "".join(
        f"---\nkind: cert_authority\nversion: v2\nsub_kind: {kind}\nmetadata: {{name: demo}}\n"
        f"spec: {{type: {kind}, cluster_name: demo}}\n"
        for kind in ("user", "host")
    )
    documents = [Placed(resource, Place("dump.yaml")) for resource in load_documents(text)]
    (found,) = outcomes("- {user: bob, logins: []}", documents=documents)
    assert found.passed


MALFORMED = [
    ("", "the file is empty"),
    ("[]", "found a list, expected a mapping"),
    ("tests: []", "tests nothing"),
    ("tests:", "tests: found nothing"),
    ("presets: true", "tests: missing"),
    ("test: []", "unknown key 'test'; did you mean tests?"),
    ("tests: [{usr: a}]", r"1: tests\[0\].usr: unknown key 'usr'; did you mean user"),
    ("tests: [{user: a, user: b}]", "key given twice"),
    ("tests: [1]", r"tests\[0\]: found '1', expected a mapping"),
    ("tests: [{expect: alowed}]", "found 'alowed', expected one of allowed, denied"),
    ("tests: [{user: a}\n---\ntests: []", "not valid YAML"),
    ("tests: [{}]\n---\ntests: [{}]", ":3: found a second document"),
    ("roles: [[a]]\ntests: [{}]", r"roles\[0\]: expected a path or a document"),
    ("roles: [{kind: user, version: v2, metadata: {name: x}}]\ntests: [{}]", "found a user, expected a role"),
    ("roles: [{kind: role, metadata: {name: x}, spec: {alow: {}}}]\ntests: [{}]", "did you mean allow?"),
    ("locks: [{target: {usr: x}}]\ntests: [{}]", "did you mean user?"),
    ("locks: [nonsense]\ntests: [{}]", r"locks\[0\]: expected a mapping"),
    ("auth_preference: {require_sesion_mfa: yes}\ntests: [{}]", "did you mean require_session_mfa?"),
    ("resources: {nodes: [web1]}\ntests: [{}]", "resources.nodes: found a list, expected a mapping"),
    ("resources: {dbs: {x: {}}}\ntests: [{}]", "resources.dbs.x.protocol: missing"),
    (
        "users: {a: {roles: [nobody]}}\ntests: [{user: a, logins: []}]",
        "users.a.roles: there is no role 'nobody'",
    ),
]


@pytest.mark.parametrize(("text", "said"), MALFORMED)
def test_malformed_files(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        build(parse(text, "t.yaml"))
    assert str(caught.value).startswith("t.yaml")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("{}", "needs an action, or logins"),
        ("{user: alice}", "needs an action, or logins"),
        ("{user: alice, action: ssh root@web1}", "needs expect"),
        ("{action: ssh root@web1, expect: denied}", "about somebody"),
        ("{user: alic, action: ssh root@web1, expect: denied}", "no user 'alic'; did you mean alice?"),
        ("{user: alice, users: [bob], action: ssh root@web1, expect: denied}", "exclude each other"),
        ("{user: alice, action: ssh root@web1, actions: [kube k1], expect: denied}", "exclude each other"),
        ("{user: alice, roles: [deV], action: kube k1, expect: denied}", "no role 'deV'; did you mean dev?"),
        ("{user: alice, action: ssh root@web9, expect: denied}", "no node 'web9'; did you mean web"),
        ("{user: alice, action: shh root@web1, expect: denied}", "'shh' is no action; did you mean ssh?"),
        ("{user: alice, action: ssh root, expect: denied}", "not how it is written"),
        ("{user: alice, action: '', actions: [''], expect: denied}", "is no action"),
        ("{user: alice, action: db x@y, expect: denied}", "there is no db 'y'"),
        ("{user: alice, action: ssh root@*, labels: {env: x}, expect: denied}", "nothing is tested"),
        ("{user: alice, action: ssh root@web1, labels: {env: dev}, expect: denied}", "labels are for"),
        ("{user: alice, action: resource rol read, expect: denied}", "did you mean role?"),
        ("{user: alice, action: resource role reed, expect: denied}", "did you mean read?"),
        ("{user: alice, action: resource role '*', expect: denied}", "is no verb"),
        ("{user: alice, action: resource role, expect: denied}", "not how it is written"),
        ("{user: alice, action: resource role read dve, expect: denied}", "no role 'dve'; did you mean dev?"),
        ("{user: alice, action: kube k1, session: {owner: x}, expect: denied}", "a session is for"),
        (
            "{user: alice, action: kube k1, expect: denied, by: dve}",
            "by: there is no role 'dve'; did you mean dev?",
        ),
        ("{user: alice, action: kube k1, expect: allowed, needs: [mfa]}", "for expect: denied"),
        ("{user: alice, action: kube k1, expect: allowed, missing: [x]}", "for expect: denied"),
        ("{user: alice, action: kube k1, expect: denied, principals: {x: []}}", "for expect: allowed"),
        ("{user: alice, logins: [], because: x}", "because is about an action"),
        (
            "{user: alice, action: kube k1, expect: denied, needs: [factor]}",
            "found 'factor', expected one of",
        ),
        ("{user: alice, action: kube k1, expect: denied, from: nowhere}", "'nowhere' is no IP address"),
        ("{user: alice, action: kube k1, expect: denied, at: yesterday}", "tests"),
        ("{user: alice, action: kube k1, expect: denied, at: '2026-01-05T10:00:00'}", "names no time zone"),
        (f"{{user: alice, action: ssh {'x' * 600}@web1, expect: denied}}", "at most 500 characters"),
        (f"{{name: {'x' * 600}, user: alice, action: kube k1, expect: denied}}", "at most 500 characters"),
    ],
)
def test_tests_that_test_nothing_are_refused(test: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        outcomes(f"- {test}")
    assert said in str(caught.value)
    assert "tests[0]" in str(caught.value) and ".yaml:" in str(caught.value)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    one = "- {users: ['*'], action: ssh root@*, expect: denied}"
    monkeypatch.setattr(limits, "MAX_CASES", 5)
    with pytest.raises(InputError, match="more than 5 cases"):
        outcomes(one)
    monkeypatch.setattr(limits, "MAX_CASES", 6)
    assert len(outcomes(one)) == 6
    for name in ("MAX_TESTS", "MAX_USERS", "MAX_DOCUMENTS"):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, 1)
            with pytest.raises(InputError, match="more than 1 "):
                outcomes(f"{one}\n{one}")
    monkeypatch.setattr(limits, "MAX_PATHS", 1)
    with pytest.raises(InputError, match="names more than 1 paths"):
        parse("files: [a, b]\ntests: [{}]", "t.yaml")


def test_whoever_asks_the_same_way_is_compiled_once() -> None:
    found = build(
        parse(f"{WORLD}\ntests:\n" + "- {user: alice, action: kube k1, expect: allowed}\n" * 3, "t")
    )
    assert len({id(case.subject) for case in found.cases}) == len({id(case.env) for case in found.cases}) == 1
    assert isinstance(found, suite.Suite)


_KEYS = ("tests", "roles", "users", "resources", "files", "locks", "auth_preference", "defaults", "presets")
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["alice", "ssh root@web1", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *_KEYS,
                    "user",
                    "action",
                    "expect",
                    "kind",
                    "metadata",
                    "name",
                    "spec",
                    "target",
                    "nodes",
                    "labels",
                    "at",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@pytest.mark.fuzz
@settings(max_examples=examples(30))
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6), st.integers(0, 400), st.text(max_size=3))
def test_whatever_is_in_a_file_it_is_read_or_refused(found: dict[str, object], cut: int, tail: str) -> None:
    """As JSON, which is YAML too; and our own file, cut somewhere and gone on with differently."""
    whole = f"{WORLD}\ntests: [{{user: alice, action: ssh root@web1, expect: allowed}}]"
    for text in (json.dumps(found), whole[:cut] + tail, whole[: len(whole) - cut] + tail + whole[-cut:]):
        try:
            list(run(build(parse(text, "t.yaml")), lambda: 0.0))
        except InputError as error:
            assert str(error).startswith("t.yaml")
