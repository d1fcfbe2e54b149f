"""Documents beside the resources they describe: places, what the server owns, differences, warnings."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.errors import ConflictError, InputError
from pkgs.common.resources import limits
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.documents.differences import SECRET, differences
from pkgs.common.resources.documents.owned import adopting, comparable, located, with_revision
from pkgs.common.resources.documents.places import load_placed
from pkgs.common.resources.documents.warnings import warnings_of
from pkgs.common.resources.kinds import (
    AccessListMember,
    AuthPreference,
    Bot,
    Lock,
    RemoteCluster,
    Resource,
    Token,
    TokenSpec,
    User,
    UserSpec,
    UserStatus,
)
from pkgs.common.resources.kinds.machines import BotStatus
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions, Role, RoleSpec, Rule
from pkgs.common.resources.secrets import changed_secrets, masked, secrets_in, shown_name
from pkgs.common.resources.validate import check_fields
from pkgs.common.resources.validate.rulekinds import known, nearest


def one(text: str) -> Resource:
    (resource,) = load_documents(text)
    return resource


class TestPlaces:
    TEXT = """\
kind: role
metadata: {name: a}
---
kind: role
metadata:
  name: spec
spec:
  allow:
    node_labels:
      teleport.dev/x: [ok, bad]
    rules:
    - resources: [node]
      verbs: [read]
"""

    def test_later_errors_get_the_line_of_their_field(self) -> None:
        one, two = load_placed(self.TEXT, "f.yaml")
        assert (one.where, two.where) == ("f.yaml:1", "f.yaml:4")
        for message, line in (
            ("role/spec: spec.allow.node_labels.teleport.dev/x[1]: no", 10),
            ("role/spec: spec.allow.rules[0].verbs: no", 13),
            ("role/spec: spec.allow.rules[7].verbs: no", 12),
            ("token: metadata.name: no", 6),
            ("role/spec: is used: no", 4),
            ("no path at all", 4),
        ):
            error = two.explained(InputError(message, hint="h", detail="d"))
            assert error.message == f"f.yaml:{line}: {message}"
            assert (error.hint, error.detail) == ("h", "d")
        assert isinstance(two.explained(ConflictError("x")), ConflictError)

    def test_json_has_documents_instead_of_lines(self) -> None:
        text = '[{"kind": "role", "metadata": {"name": "a"}}, {"kind": "role", "metadata": {"name": "b"}}]'
        assert [d.where for d in load_placed(text, "f.json")] == ["f.json: document 1", "f.json: document 2"]
        (only,) = load_placed('{"kind": "role", "metadata": {"name": "a"}}', "f.json")
        assert only.where == "f.json"
        with pytest.raises(InputError, match=r"^f\.json: document 2 of 2: kind: missing"):
            load_documents('[{"kind": "role", "metadata": {"name": "a"}}, {}]', "f.json")
        with pytest.raises(InputError, match=r"^f\.yaml:4: document 2 of 2: kind: missing"):
            load_documents("kind: role\nmetadata: {name: x}\n---\na: b\n", "f.yaml")


class TestOwned:
    def test_a_user_stays_locked_unless_the_document_says_otherwise(self) -> None:
        locked = UserStatus(is_locked=True, locked_message="m")
        before = User(metadata=Metadata(name="a"), spec=UserSpec(roles=["x"], status=locked))
        plain = User(metadata=Metadata(name="a"), spec=UserSpec(roles=["y"]))
        adopted = adopting(plain, before)
        assert adopted.spec.status == locked
        assert adopted.spec.roles == ["y"]
        said = UserStatus(locked_message="lifted")
        spoken = msgspec.structs.replace(plain, spec=UserSpec(roles=["y"], status=said))
        assert adopting(spoken, before).spec.status == said

    def test_a_lock_keeps_its_age(self) -> None:
        lock = one("kind: lock\nmetadata: {name: l}\nspec: {target: {user: eve}}")
        assert isinstance(lock, Lock)
        age = datetime(2026, 1, 1, tzinfo=UTC)
        spec = msgspec.structs.replace(lock.spec, created_at=age, created_by="x")
        made = msgspec.structs.replace(lock, spec=spec)
        assert adopting(lock, made) == made

    def test_what_makes_no_difference(self) -> None:
        role = Role(metadata=Metadata(name="r"))
        assert comparable(with_revision(role, "7")) == role
        assert with_revision(role, "") is role
        bot = Bot(metadata=Metadata(name="b"), status=BotStatus())
        assert comparable(bot).status is None
        settings = AuthPreference(metadata=Metadata(name="x", labels={"teleport.dev/origin": "dynamic"}))
        assert comparable(settings).metadata.labels == {}
        marked = Role(metadata=Metadata(name="x", labels={"teleport.dev/origin": "dynamic"}))
        assert comparable(marked) == marked
        remote = RemoteCluster(metadata=Metadata(name="leaf"))
        assert adopting(remote, remote) == remote

    def test_where_a_document_is_kept(self) -> None:
        member = one("kind: access_list_member\nmetadata: {name: a}\nspec: {access_list: l, name: a}")
        assert isinstance(member, AccessListMember)
        assert located(member).sub_kind == "l"
        assert located(AuthPreference(metadata=Metadata(name="x"))).name == "cluster-auth-preference"
        role = Role(metadata=Metadata(name="r"))
        assert located(role) is role


def told(before: Resource | None, after: Resource | None) -> dict[str, tuple[str, str]]:
    return {d.path: (d.before, d.after) for d in differences(before, after)}


class TestDifferences:
    def role(self, **allow: object) -> Role:
        return Role(metadata=Metadata(name="r"), spec=RoleSpec(allow=Conditions(**allow)))  # type: ignore[arg-type]

    def test_paths_with_values(self) -> None:
        old = self.role(logins=["a"], node_labels={"x": "1", "y": ["2"]})
        new = self.role(logins=["b"], node_labels={"x": "1", "z": "3"})
        assert told(old, new) == {
            "spec.allow.logins": ('["a"]', '["b"]'),
            "spec.allow.node_labels.y": ('["2"]', ""),
            "spec.allow.node_labels.z": ("", "3"),
        }
        assert told(old, old) == {}
        assert told(None, None) == {}

    def test_blocks_of_a_list_one_by_one(self) -> None:
        read, write = (Rule(resources=["node"], verbs=[verb]) for verb in ("read", "create"))
        assert told(self.role(rules=[read]), self.role(rules=[write, read])) == {
            "spec.allow.rules[0].verbs": ('["read"]', '["create"]'),
            "spec.allow.rules[1].resources": ("", '["node"]'),
            "spec.allow.rules[1].verbs": ("", '["read"]'),
        }

    def test_an_empty_block_that_means_something_is_told(self) -> None:
        old = one("kind: role\nversion: v3\nmetadata: {name: r}\nspec: {allow: {logins: [a], db_labels: {}}}")
        new = one("kind: role\nversion: v3\nmetadata: {name: r}\nspec: {allow: {logins: [a]}}")
        assert told(old, new) == {"spec.allow.db_labels.*": ("", "*")}

    def test_making_and_deleting(self) -> None:
        role = self.role(logins=["a"])
        assert told(None, role) == {"spec.allow.logins": ("", '["a"]')}
        assert told(role, None) == {"spec.allow.logins": ('["a"]', "")}
        lock = one("kind: lock\nmetadata: {name: l}\nspec: {target: {user: eve}}")
        assert told(None, lock)["spec.target.user"] == ("", "eve")
        bot = Bot(metadata=Metadata(name="b"), status=BotStatus())
        assert all(path.startswith("status") for path in told(None, bot))
        leaf = RemoteCluster(metadata=Metadata(name="leaf", labels={"a": "b"}))
        assert told(None, leaf) == {"metadata.labels.a": ("", "b")}

    def test_secrets_are_named_and_never_shown(self) -> None:
        text = "kind: oidc\nmetadata: {{name: o}}\nspec: {{issuer_url: 'https://i', client_id: c, {}}}"
        old = one(text.format("client_secret: hush, mfa: {client_secret: hush-2}"))
        new = one(text.format("client_secret: other"))
        found = told(old, new)
        assert found["spec.client_secret"] == (SECRET, SECRET)
        assert found["spec.mfa.client_secret"] == (SECRET, SECRET)
        assert "hush" not in str(found) and "other" not in str(found)
        assert changed_secrets(old, old) == []
        assert changed_secrets(None, new) == ["client_secret"]
        assert changed_secrets(None, None) == []
        assert secrets_in(old) == ("client_secret", "mfa.client_secret")
        token = Token(metadata=Metadata(name="hush-token-name"), spec=TokenSpec(roles=["Node"]))
        assert "hush" not in str(told(None, token))
        assert "hush" not in shown_name(token) and shown_name(token) == masked("hush-token-name")
        named = Token(metadata=Metadata(name="ci"), spec=TokenSpec(roles=["Node"], join_method="github"))
        assert shown_name(named) == "ci"

    @given(st.integers(0, 200), st.text(max_size=600))
    def test_always_bounded(self, labels: int, text: str) -> None:
        role = Role(metadata=Metadata(name="r", labels={f"k{i}": text for i in range(labels)}))
        found = differences(Role(metadata=Metadata(name="r")), role)
        assert len(found) <= limits.MAX_DIFFERENCES
        assert all(len(d.after) <= limits.MAX_DIFFERENCE_CHARS + 30 for d in found)
        if labels > limits.MAX_DIFFERENCES:
            assert found[-1].after == f"{labels - limits.MAX_DIFFERENCES + 1} more changes"


class TestKindsInRules:
    def test_the_presets_know_what_they_name(self) -> None:
        for role in (*preset_roles(), IMPLICIT_ROLE):
            assert warnings_of(role) == []

    def rules(self, allow: list[str], deny: list[str]) -> Role:
        def side(kinds: list[str]) -> Conditions:
            return Conditions(rules=[Rule(resources=kinds, verbs=["read"])] if kinds else [])

        return Role(metadata=Metadata(name="r"), spec=RoleSpec(allow=side(allow), deny=side(deny)))

    def test_an_unknown_kind_is_kept_with_a_warning(self) -> None:
        role = self.rules(["node", "rolle", "quantum_gate"], ["quantum_gate"])
        check_fields(role)
        nothing = "role/r: spec.{}: nothing here is of kind {!r}, so the rule does nothing for it{}"
        assert warnings_of(role) == [
            nothing.format("allow.rules[0].resources[1]", "rolle", "; did you mean role?"),
            nothing.format("allow.rules[0].resources[2]", "quantum_gate", ""),
            nothing.format("deny.rules[0].resources[0]", "quantum_gate", ""),
        ]
        assert warnings_of(User(metadata=Metadata(name="u"))) == []

    @pytest.mark.parametrize("kind", ["nodde", "Rolee", "sesion", "tokn", "acess_list"])
    def test_a_misspelt_denial_is_refused(self, kind: str) -> None:
        with pytest.raises(InputError, match=r"spec\.deny\.rules\[0\]\.resources\[0\].*did you mean"):
            check_fields(self.rules([], [kind]))

    @pytest.mark.parametrize(
        "kind", ["node", "Roles", " node ", "kube_server", "session", "auth_connector", "*", "connectors"]
    )
    def test_what_the_field_knows_may_be_denied(self, kind: str) -> None:
        check_fields(self.rules([], [kind]))

    def test_nearest(self) -> None:
        assert nearest("acces_request") == "access_request"
        assert nearest("xyz") == ""
        assert known("okta_assignment") and not known("okta")
