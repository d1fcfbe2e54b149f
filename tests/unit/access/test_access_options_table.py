"""Every role option and how it merges: one row per option and case, in any order of the roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest

from pkgs.common.access.options import merge_options
from pkgs.common.access.options.desktop import desktop_options
from pkgs.common.access.options.login import (
    allows_saml_idp,
    cert_extensions,
    device_mode,
    key_policy,
    lock_mode,
    login_request,
    mfa_mode,
    mfa_verification_interval,
)
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.kinds import AuthPreference, AuthPreferenceSpec
from pkgs.common.resources.kinds.settings import DeviceTrust, Idp, Switch
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import CertExtension, IdpOptions, RecordSession, Role, SamlIdpOption
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import only

Options = dict[str, Any]
DEVICE_REQUIRED = DeviceTrust(mode="required")
TRAITS = {"gh": ("mira", "other"), "empty": (), "bad": ("a\nb", "mira")}


def record(**fields: Any) -> Options:
    return {"record_session": RecordSession(**fields)}


def saml(enabled: bool) -> Options:
    return {"idp": IdpOptions(saml=SamlIdpOption(enabled=enabled))}


def extension(**values: str) -> Options:
    return {"cert_extensions": [CertExtension(name=f"{k}@x", value=v) for k, v in values.items()]}


def cluster(**fields: Any) -> AuthPreference:
    return AuthPreference(metadata=Metadata(name="c"), spec=AuthPreferenceSpec(**fields))


def session(name: str) -> Any:
    return lambda roles, in_force, preference: getattr(
        merge_options(roles, in_force=in_force, auth_preference=preference), name
    )


def desktop(name: str) -> Any:
    return lambda roles, in_force, preference: getattr(desktop_options(roles, {}, {}, in_force), name)


def one(function: Any) -> Any:
    """A merge that asks neither for what is in force nor for the cluster."""
    return lambda roles, in_force, preference: function(roles)


def of_cluster(function: Any) -> Any:
    return lambda roles, in_force, preference: function(roles, preference)


def extensions(roles: Sequence[Role], in_force: Any, preference: Any) -> dict[str, str]:
    return cert_extensions(roles, TRAITS, in_force)


@dataclass(frozen=True)
class Case:
    name: str
    options: list[Options]
    """Of the roles a, b, c."""
    expected: Any
    on: tuple[str, ...] = ("a", "b", "c")
    """Names of those in force."""
    cluster: AuthPreference | None = None


def least(option: str) -> list[Case]:
    return [
        Case("least", [{option: 5}, {option: 3}], 3),
        Case("0 is none", [{option: 0}, {option: 3}], 3),
        Case("none", [{}, {}], 0),
        Case("restricts", [{}, {option: 3}], 3, on=("a",)),
    ]


def by_any(option: str, value: Any = True) -> list[Case]:
    return [
        Case("one", [{}, {option: value}], True),
        Case("no one", [{}, {}], False),
        Case("not in force", [{}, {option: value}], False, on=("a",)),
    ]


def by_all(option: str) -> list[Case]:
    return [
        Case("all", [{}, {}], True),
        Case("refused by one", [{}, {option: False}], False),
        Case("refusal restricts", [{}, {option: False}], False, on=("a",)),
        Case("none in force", [{}, {}], False, on=()),
    ]


def saml_idp(roles: Sequence[Role], in_force: Any, preference: Any) -> bool:
    return allows_saml_idp(roles, preference, in_force)


def asked(roles: Sequence[Role]) -> tuple[bool, bool]:
    return login_request(roles).must_request, login_request(roles).reason_required


TTL, IDLE, EVENTS, MFA = "max_session_ttl", "client_idle_timeout", "enhanced_recording", "require_session_mfa"
DISCONNECT, INTERVAL, DEVICE = "disconnect_expired_cert", "mfa_verification_interval", "device_trust_mode"
STRICT, SSH_STRICT, SSH_RELAXED = record(default="strict"), record(ssh="strict"), record(ssh="best_effort")
UNRECORDED, PIN, FORMAT, REQUEST = record(desktop=False), "pin_source_ip", "cert_format", "request_access"
LOCKED = cluster(locking_mode="strict")
KEY, TOUCH, KEY_PIN = ({MFA: f"hardware_key{rest}"} for rest in ("", "_touch", "_pin"))
BOTH = "hardware_key_touch_and_pin"

TABLE: dict[str, tuple[Any, list[Case]]] = {
    TTL: (
        session("max_session_ttl_s"),
        [
            Case("shortest", [{TTL: "8h"}, {TTL: "2h"}], 7200),
            Case("0 is none", [{TTL: "0"}, {TTL: "8h"}], 28800),
            Case("none", [{TTL: "0"}], 108000),
            Case("restricts", [{TTL: "8h"}, {TTL: "2h"}], 7200, on=("a",)),
        ],
    ),
    IDLE: (
        session("client_idle_timeout_s"),
        [
            Case("shortest", [{IDLE: "9m"}, {IDLE: "3m"}], 180),
            Case("never is none", [{IDLE: "never"}, {IDLE: "3m"}], 180),
            Case("none", [{}, {IDLE: "0"}], 0),
            Case("restricts", [{}, {IDLE: "3m"}], 180, on=("a",)),
        ],
    ),
    DISCONNECT: (
        session(DISCONNECT),
        [
            Case("nobody", [{}, {}], False, cluster=cluster()),
            Case("a role, in force or not", [{}, {DISCONNECT: True}], True, on=("a",), cluster=cluster()),
            Case("the cluster", [{}], True, cluster=cluster(disconnect_expired_cert=True)),
        ],
    ),
    "max_sessions": (session("max_sessions"), least("max_sessions")),
    "max_connections": (session("max_connections"), least("max_connections")),
    "max_kubernetes": (session("max_kubernetes_connections"), least("max_kubernetes_connections")),
    "max_db": (session("max_db_connections"), least("max_db_connections")),
    "forward_agent": (session("forward_agent"), by_any("forward_agent")),
    "permit_x11_forwarding": (session("x11"), by_any("permit_x11_forwarding")),
    "ssh_file_copy": (session("file_copy"), by_all("ssh_file_copy")),
    "desktop_clipboard": (desktop("clipboard"), by_all("desktop_clipboard")),
    "desktop_directory_sharing": (desktop("directory_sharing"), by_all("desktop_directory_sharing")),
    "record_session.desktop": (
        desktop("record"),
        [
            Case("any", [UNRECORDED, {}], True),
            Case("none", [UNRECORDED, UNRECORDED], False),
            Case("restricts", [UNRECORDED, {}], True, on=("a",)),
        ],
    ),
    "record_session.ssh": (
        session("record_strict"),
        [
            Case("strict", [SSH_STRICT, SSH_RELAXED], True),
            Case("relaxed", [STRICT, SSH_RELAXED], False),
            Case("by default", [STRICT, {}], True),
            Case("not at all", [{}, {}], False),
            Case("restricts", [{}, SSH_STRICT], True, on=("a",)),
            Case("only in force relaxes", [STRICT, SSH_RELAXED], True, on=("a",)),
        ],
    ),
    "record_session.default": (
        session("record_strict_default"),
        [
            Case("strictest", [STRICT, SSH_RELAXED], True),
            Case("not of ssh", [{}, SSH_STRICT], False),
            Case("restricts", [{}, STRICT], True, on=("a",)),
        ],
    ),
    EVENTS: (
        session(EVENTS),
        [
            Case("union", [{EVENTS: ("disk",)}, {EVENTS: ("network",)}], {"disk", "network"}),
            Case("by default", [{}], {"command", "network"}),
            Case("none", [{EVENTS: ()}], set()),
            Case("restricts", [{EVENTS: ()}, {}], {"command", "network"}, on=("a",)),
        ],
    ),
    "lock": (
        session("lock_mode"),
        [
            Case("strict", [{"lock": "best_effort"}, {"lock": "strict"}], "strict", cluster=cluster()),
            Case("relaxed", [{"lock": "best_effort"}, {}], "best_effort", cluster=LOCKED),
            Case("the cluster", [{}, {}], "strict", cluster=LOCKED),
            Case("by default", [{}], "best_effort"),
            Case("restricts", [{}, {"lock": "strict"}], "strict", on=("a",)),
            Case("only in force relaxes", [{}, {"lock": "best_effort"}], "strict", on=("a",), cluster=LOCKED),
        ],
    ),
    PIN: (
        session(PIN),
        [Case("any", [{}, {PIN: True}], True, on=("a",)), Case("none", [{}, {}], False)],
    ),
    FORMAT: (
        session(FORMAT),
        [
            Case("old by one", [{}, {FORMAT: "oldssh"}], "oldssh"),
            Case("not in force", [{}, {FORMAT: "oldssh"}], "standard", on=("a",)),
        ],
    ),
    "cert_extensions": (
        extensions,
        [
            Case("together", [extension(p="1"), extension(q="2")], {"p@x": "1", "q@x": "2"}),
            Case("later name", [extension(p="1"), extension(p="2"), extension(p="3")], {"p@x": "3"}),
            Case("not in force", [extension(p="1"), extension(p="2")], {"p@x": "1"}, on=("a",)),
            Case("first value", [extension(p="{{external.gh}}")], {"p@x": "mira"}),
            Case("empty", [extension(p="1"), extension(p="{{external.empty}}", q="")], {"p@x": "1"}),
            Case("line break", [extension(p="{{external.bad}}")], {}),
        ],
    ),
    f"{MFA}, mode": (
        of_cluster(mfa_mode),
        [
            Case("no role", [{}, {MFA: "off"}], "never", cluster=cluster()),
            Case("some roles", [{}, {MFA: True}], "per-role", cluster=cluster()),
            Case("all roles but the implicit one", [{MFA: True}, {MFA: True}], "per-role"),
            Case("the cluster", [{}], "always", cluster=cluster(require_session_mfa=True)),
        ],
    ),
    f"{MFA}, key policy": (
        of_cluster(key_policy),
        [
            Case("none", [{}, {MFA: True}, {MFA: "session"}], "none"),
            Case("key", [{}, KEY], "hardware_key"),
            Case("touch beats key", [TOUCH, KEY], "hardware_key_touch"),
            Case("pin", [KEY_PIN, {MFA: "yes"}], "hardware_key_pin"),
            Case("touch and pin", [TOUCH, KEY_PIN], BOTH),
            Case(
                "with the cluster's", [TOUCH], BOTH, cluster=cluster(require_session_mfa="hardware_key_pin")
            ),
            Case("both in one", [KEY, {MFA: BOTH}], BOTH),
            Case("what is not known", [{MFA: "hardware_token"}], BOTH),
        ],
    ),
    "idp.saml": (
        saml_idp,
        [
            Case("all", [{}, saml(True)], True, cluster=cluster()),
            Case("refused", [{}, saml(False)], False, on=("a",), cluster=cluster()),
            Case("none in force", [{}, saml(True)], False, on=()),
            Case("the cluster", [{}], False, cluster=cluster(idp=Idp(saml=Switch(enabled=False)))),
        ],
    ),
    REQUEST: (
        one(asked),
        [
            Case("optional", [{}, {REQUEST: "optional"}], (False, False)),
            Case("always", [{}, {REQUEST: "always"}], (True, False), on=("a",)),
            Case("reason", [{REQUEST: "always"}, {REQUEST: "reason"}], (True, True), on=("a",)),
        ],
    ),
    "request_prompt": (
        one(lambda roles: login_request(roles).prompts),
        [Case("by name", [{"request_prompt": "why"}, {}, {"request_prompt": "id"}], ("why", "id"))],
    ),
    INTERVAL: (
        one(mfa_verification_interval),
        [
            Case("shortest", [{INTERVAL: "1h"}, {INTERVAL: "5m"}], 300),
            Case("the life", [{TTL: "2h"}, {}], 7200),
            Case("within the life", [{TTL: "2h"}, {INTERVAL: "9h"}], 7200),
        ],
    ),
    DEVICE: (
        of_cluster(device_mode),
        [
            Case("off", [{}, {DEVICE: "off"}], "off", cluster=cluster()),
            Case("optional", [{}, {DEVICE: "optional"}], "optional"),
            Case("required", [{DEVICE: "optional"}, {DEVICE: "required"}], "required"),
            Case("cluster", [{DEVICE: "off"}], "required", cluster=cluster(device_trust=DEVICE_REQUIRED)),
        ],
    ),
}


@pytest.mark.parametrize(
    ("merge", "case"),
    [(merge, case) for merge, cases in TABLE.values() for case in cases],
    ids=[f"{option}: {case.name}" for option, (_, cases) in TABLE.items() for case in cases],
)
def test_option(merge: Any, case: Case) -> None:
    roles = [role(name, **found) for name, found in zip("abc", case.options, strict=False)]
    for order in permutations(roles):
        assert merge(list(order), only(*case.on), case.cluster) == case.expected
        assert merge([*order, IMPLICIT_ROLE], only(*case.on), case.cluster) == case.expected


def test_nothing_is_granted_without_roles() -> None:
    merged = merge_options([])
    assert not (merged.forward_agent or merged.port_forward_local or merged.port_forward_remote)
    assert not (merged.x11 or merged.file_copy)
    desk = desktop_options([], {}, {})
    assert not (desk.clipboard or desk.directory_sharing or desk.create_user)
    assert not allows_saml_idp([], cluster())
    assert cert_extensions([], {}) == {}
    assert lock_mode([], cluster(locking_mode="strict")) == "strict"
