"""Options merged over roles, logins for certificates, templates, and the full validation of a role."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.matching.traits import expand
from pkgs.common.access.options import logins_for, max_session_ttl, merge_options
from pkgs.common.access.options.merge import serving
from pkgs.common.access.types import Environment
from pkgs.common.access.validate import validate
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.resources.defaults import IMPLICIT_ROLE, default_singletons
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    NetworkingConfig,
    NetworkingSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import (
    Conditions,
    PortForwardingMode,
    RecordSession,
    Role,
    RoleOptions,
    RoleSpec,
    Rule,
    SshPortForwarding,
    TimeWindow,
)
from tests.harness.examples import examples

STAR = {"*": "*"}
TRAITS = {"logins": ("root", "deploy", "bad name", "*"), "email": ("al@example.com",)}


def role(allow: Any = None, deny: Any = None, **options: Any) -> Role:
    spec = RoleSpec(
        options=RoleOptions(**options), allow=Conditions(**(allow or {})), deny=Conditions(**(deny or {}))
    )
    return Role(metadata=Metadata(name="r"), spec=spec)


def modes(local: bool | None, remote: bool | None) -> SshPortForwarding:
    return SshPortForwarding(
        local=PortForwardingMode(enabled=local), remote=PortForwardingMode(enabled=remote)
    )


class TestMerge:
    def test_nothing_is_granted_without_roles(self) -> None:
        merged = merge_options([])
        assert not (merged.forward_agent or merged.port_forward_local or merged.x11 or merged.file_copy)

    @pytest.mark.parametrize(
        ("ttls", "expected_h"), [(["8h", "2h"], 2), (["0", "2h"], 2), (["0"], 30), (["30h", "0s"], 30)]
    )
    def test_shortest_life(self, ttls: list[str], expected_h: int) -> None:
        roles = [role(max_session_ttl=ttl) for ttl in ttls]
        assert merge_options(roles).max_session_ttl_s == expected_h * 3600
        assert max_session_ttl(roles, 99 * 3600) == expected_h * 3600
        assert max_session_ttl(roles, 60) == 60
        assert max_session_ttl(roles, 0) == expected_h * 3600

    @pytest.mark.parametrize(
        ("values", "cluster", "expected"),
        [
            (["20m", "never"], "0s", 1200),
            (["", "0"], "5m", 300),
            (["20m"], "5m", 300),
            (["", "never"], "0s", 0),
        ],
    )
    def test_idle_timeout(self, values: list[str], cluster: str, expected: int) -> None:
        networking = NetworkingConfig(
            metadata=Metadata(name="x"), spec=NetworkingSpec(client_idle_timeout=cluster)
        )
        roles = [role(client_idle_timeout=value) for value in values]
        assert merge_options(roles, networking=networking).client_idle_timeout_s == expected

    @pytest.mark.parametrize(
        ("roles", "local", "remote"),
        [
            ([role()], True, True),
            ([role(port_forwarding=False)], False, False),
            ([role(port_forwarding=True, ssh_port_forwarding=modes(False, False))], True, True),
            ([role(ssh_port_forwarding=modes(True, False))], True, False),
            ([role(ssh_port_forwarding=modes(True, False)), role()], True, False),
            ([role(ssh_port_forwarding=modes(None, True))], True, True),
            ([role(port_forwarding=False), role(port_forwarding=True)], True, True),
            ([role(port_forwarding=False), IMPLICIT_ROLE], False, False),
            ([role(port_forwarding=False, ssh_port_forwarding=modes(True, None))], True, False),
            ([role(port_forwarding=True), role(ssh_port_forwarding=modes(False, None))], False, True),
        ],
    )
    def test_port_forwarding(self, roles: list[Role], local: bool, remote: bool) -> None:
        for order in (roles, roles[::-1]):
            merged = merge_options(order)
            assert (merged.port_forward_local, merged.port_forward_remote) == (local, remote)

    @pytest.mark.parametrize(
        ("dormant", "local", "remote"),
        [
            (role(), False, False),
            (role(port_forwarding=True), False, False),
            (role(ssh_port_forwarding=modes(True, False)), False, False),
        ],
    )
    def test_port_forwarding_by_roles_that_are_not_in_force(
        self, dormant: Role, local: bool, remote: bool
    ) -> None:
        merged = merge_options([dormant], in_force=lambda found: False)
        assert (merged.port_forward_local, merged.port_forward_remote) == (local, remote)
        # Its no still counts beside a role that is in force.
        serving = msgspec.structs.replace(role(), metadata=Metadata(name="serving"))
        merged = merge_options([dormant, serving], in_force=lambda found: found is serving)
        explicit_no = dormant.spec.options.ssh_port_forwarding is not None
        assert merged.port_forward_local
        assert merged.port_forward_remote is not explicit_no

    def test_a_role_outside_of_its_hours_and_networks_gives_nothing(self) -> None:
        """08:00 UTC on a Friday, from 10.0.0.5."""
        env = Environment(now=1_800_000_000.0, source_addr="10.0.0.5")
        for allow, serves in (
            ({}, True),
            ({"when": [TimeWindow(days=["fri"], hours="07:00-09:00")]}, True),
            ({"when": [TimeWindow(days=["fri"], hours="09:00-10:00")]}, False),
            ({"source": ["10.0.0.0/8"]}, True),
            ({"source": ["192.0.2.0/24"]}, False),
            ({"source": ["nonsense"]}, False),
        ):
            found = role(allow, permit_x11_forwarding=True, max_sessions=3)
            merged = merge_options([found], in_force=serving(env))
            assert merged.x11 is merged.file_copy is merged.port_forward_local is serves
            assert merged.max_sessions == 3
        nowhere = serving(Environment(now=env.now))
        assert not merge_options([role({"source": ["10.0.0.0/8"]})], in_force=nowhere).file_copy

    def test_agent_forwarding_needs_the_login_in_the_same_role(self) -> None:
        forwarding = role({"logins": ["{{internal.logins}}"]}, forward_agent=True)
        other = role({"logins": ["guest"]})
        for login, expected in (("root", True), ("guest", False), ("", True)):
            merged = merge_options([forwarding, other], login, traits=TRAITS)
            assert merged.forward_agent is expected

    def test_any_and_all(self) -> None:
        merged = merge_options(
            [
                role(permit_x11_forwarding=True, ssh_file_copy=False, pin_source_ip=True, max_sessions=10),
                role(max_sessions=3, cert_format="oldssh", disconnect_expired_cert=True),
            ]
        )
        assert merged.x11
        assert not merged.file_copy
        assert merged.pin_source_ip
        assert merged.max_sessions == 3
        assert merged.cert_format == "oldssh"
        assert merged.disconnect_expired_cert
        assert merged.enhanced_recording == {"command", "network"}

    @pytest.mark.parametrize(
        ("records", "strict"),
        [
            ([RecordSession()], False),
            ([RecordSession(default="strict"), RecordSession()], True),
            ([RecordSession(default="strict"), RecordSession(ssh="best_effort")], False),
            ([RecordSession(ssh="best_effort"), RecordSession(ssh="strict")], True),
        ],
    )
    def test_recording(self, records: list[RecordSession], strict: bool) -> None:
        assert merge_options([role(record_session=record) for record in records]).record_strict is strict

    @pytest.mark.parametrize(
        ("values", "cluster", "expected"),
        [
            (["", "best_effort"], "strict", "best_effort"),
            (["best_effort", "strict"], "best_effort", "strict"),
            ([""], "strict", "strict"),
        ],
    )
    def test_lock_mode_and_cluster_settings(self, values: list[Any], cluster: Any, expected: str) -> None:
        preference = AuthPreference(
            metadata=Metadata(name="x"),
            spec=AuthPreferenceSpec(locking_mode=cluster, disconnect_expired_cert=True),
        )
        merged = merge_options([role(lock=value) for value in values], auth_preference=preference)
        assert merged.lock_mode == expected
        assert merged.disconnect_expired_cert
        assert merge_options([role()]).lock_mode == "best_effort"


class TestLogins:
    def test_union_minus_deny(self) -> None:
        roles = [
            role({"logins": ["{{internal.logins}}", "{{email.local(external.email)}}"]}),
            role({"logins": ["backup"]}, {"logins": ["deploy"]}),
        ]
        assert logins_for(roles, TRAITS, 60) == ("al", "backup", "root")
        assert logins_for([*roles, role(deny={"logins": ["*"]})], TRAITS, 60) == ()
        assert logins_for([], TRAITS, 60) == ()

    def test_only_roles_that_permit_the_life_count(self) -> None:
        roles = [role({"logins": ["root"]}, max_session_ttl="1h"), role({"logins": ["guest"]})]
        assert logins_for(roles, {}, 7200) == ("guest",)
        with pytest.raises(DeniedError):
            logins_for(roles[:1], {}, 7200)
        assert logins_for([role(max_session_ttl="1h")], {}, 7200) == ()


class TestTemplates:
    TRAITS = {
        "logins": ("root", "al"),
        "email": ("al@example.com", "bo@example.com"),
        "bad": ("al", "x@y@z"),
        "a b": ("v",),
        "group": ("team-red", "other"),
        "ends": ("a-b", "a-c", "c-b"),
    }

    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("plain", ("plain",)),
            ("{{internal.logins}}", ("root", "al")),
            ("{{ internal.logins }}", ("root", "al")),
            ("{{external.logins}}", ("root", "al")),
            ('{{external["a b"]}}', ("v",)),
            ("{{external[`a b`]}}", ("v",)),
            ("{{external.missing}}", ()),
            ("  p-{{external.logins}}-s  ", ("p-root-s", "p-al-s")),
            ("{{email.local(external.email)}}", ("al", "bo")),
            ("{{email.local(external.bad)}}", ()),
            ('{{regexp.replace(external.group, "^team-(.*)$", "$1")}}', ("red",)),
            ('{{regexp.replace(external.group, "^team-(?P<n>.*)$", "x${n}y")}}', ("xredy",)),
            ('{{regexp.replace(external.group, "team-*", "all")}}', ("all",)),
            ('{{regexp.replace(external.group, "^team-(.*)$", "$2$$1${")}}', ("$1",)),
            ('{{regexp.replace(email.local(external.email), "^(.).*$", "${1}")}}', ("a", "b")),
            ('{{regexp.replace(external.group, "^\\"$", "")}}', ()),
            # Every match, and the trap of anchors that hold one branch each.
            ('{{regexp.replace(external.ends, "^a|b$", "x")}}', ("x-x", "x-c", "c-x")),
            ('{{regexp.replace(external.ends, "^a*|$", "x")}}', ("x-bx", "x-cx", "xc-bx")),
            ('{{regexp.replace(external.ends, "*", "<$0>")}}', ("<a-b>", "<a-c>", "<c-b>")),
        ],
    )
    def test_expansion(self, text: str, values: tuple[str, ...]) -> None:
        assert expand(text, self.TRAITS).values == values

    @pytest.mark.parametrize(
        "text",
        [
            "{{internal.unknown}}",
            "{{internal}}",
            "{{internal.}}",
            "{{internal.logins",
            "internal.logins}}",
            "}}internal.logins{{",
            "{{internal.logins}}{{internal.logins}}",
            "{{}}",
            "{{other.logins}}",
            "{{email.local(external.email}}",
            "{{email.local()}}",
            "{{email.other(external.email)}}",
            "{{regexp.match(external.email)}}",
            '{{regexp.replace(external.x, "(", "y")}}',
            '{{regexp.replace(external.x, "^($", "y")}}',
            '{{regexp.replace(external.x, "y)}}',
            "{{regexp.replace(external.x, y, z)}}",
            '{{external["x}}',
            '{{external["x"]y}}',
            "{{external.x + external.y}}",
            "{{" + "email.local(" * 20 + "external.x" + ")" * 20 + "}}",
            "{{external." + "x" * 2000 + "}}",
        ],
    )
    def test_what_does_not_parse(self, text: str) -> None:
        if text == '{{regexp.replace(external.x, "(", "y")}}':
            assert expand(text, self.TRAITS).values == ()  # a plain pattern, not a regular expression
            return
        with pytest.raises(InputError):
            expand(text, self.TRAITS)

    @pytest.mark.parametrize(
        "value", ["", "al", "@x", "al@", "a@b@c", "Al <al@x>", "a b@x", "a\n@x", '"al"@x', "al@x;y", "al,b@x"]
    )
    def test_what_is_no_address(self, value: str) -> None:
        assert expand("{{email.local(external.e)}}", {"e": ("bo@example.com", value)}).values == ()

    @pytest.mark.parametrize("replacement", ["$1$1", "$1"])
    def test_a_replacement_is_bounded(self, replacement: str) -> None:
        entry = '{{regexp.replace(external.e, "^(.*)$", "' + replacement + '")}}'
        with pytest.raises(InputError, match="longer than 10000"):
            expand(entry, {"e": ("x" * (10_001 // replacement.count("$") + 1),)})

    @pytest.mark.fuzz
    @given(st.text(max_size=60), st.text(max_size=20))
    @settings(max_examples=examples(100))
    def test_any_text_expands_or_is_refused(self, text: str, value: str) -> None:
        for entry in (text, "{{" + text + "}}", "{{regexp.replace(external.x, " + text + ")}}"):
            try:
                expand(entry, {"x": (value,)})
            except InputError:
                continue


class TestValidate:
    def test_what_a_cluster_begins_with_is_valid(self) -> None:
        for resource in (*preset_roles(), *default_singletons("demo", "id")):
            validate(resource)

    @pytest.mark.parametrize(
        "bad",
        [
            role({"logins": ["*"]}),
            role({"logins": ["{{internal.nope}}"]}),
            role({"db_users": ["{{internal.nope}}"]}),
            role({"app_labels": {"x": "{{"}}),
            role({"node_labels": {"*": "x"}}),
            role({"node_labels": {"*": ["*", "x"]}}),
            role(deny={"node_labels": {"*": "x"}}),
            role({"node_labels": {"x": []}}),
            role({"node_labels": {"x": "^($"}}),
            role({"node_labels_expression": "x"}),
            role(deny={"node_labels_expression": "x"}),
            role({"rules": [Rule(resources=[], verbs=["read"])]}),
            role({"rules": [Rule(resources=["role"], verbs=["nope"])]}),
            role({"rules": [Rule(resources=["role"], verbs=["read"], where="true")]}),
            role(max_session_ttl="soon"),
            role(client_idle_timeout="x"),
            role(max_sessions=-1),
            msgspec.structs.replace(role(), version="v9"),
            msgspec.structs.replace(role(), metadata=Metadata(name="Node")),
            msgspec.structs.replace(role(), metadata=Metadata(name="default-implicit-role")),
        ],
    )
    def test_roles_that_are_refused(self, bad: Role) -> None:
        with pytest.raises(InputError) as caught:
            validate(bad)
        assert str(caught.value).startswith("role/")

    @pytest.mark.parametrize("version", ["v3", "v4", "v5", "v6", "v7", "v8"])
    def test_role_versions(self, version: str) -> None:
        validate(msgspec.structs.replace(role({"node_labels": STAR}), version=version))
