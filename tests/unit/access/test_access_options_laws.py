"""Laws of merging: each merge against a naive reading of the table, and what holds for all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.options import merge_options
from pkgs.common.access.options.desktop import desktop_options
from pkgs.common.access.options.login import (
    allows_saml_idp,
    cert_extensions,
    device_mode,
    key_policy,
    login_request,
    mfa_mode,
    mfa_verification_interval,
)
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    NetworkingConfig,
    NetworkingSpec,
)
from pkgs.common.resources.kinds.settings import DeviceTrust, Idp, Switch
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    CertExtension,
    IdpOptions,
    RecordSession,
    Role,
    SamlIdpOption,
)
from tests.harness.examples import examples
from tests.unit.access.access_kit import role
from tests.unit.access.role_kit import modes, only

DURATIONS = st.sampled_from(["", "0", "never", "5m", "1h", "8h", "30h0m0s"])
COUNTS = st.integers(0, 4)
BOOLS = st.booleans()
MFA = st.sampled_from(
    [False, True, "", "off", "session", "hardware_key", "hardware_key_touch", "hardware_key_pin"]
)
DEVICES = st.sampled_from(["", "off", "optional", "required"])
EXTENSIONS = st.lists(
    st.builds(
        CertExtension,
        name=st.sampled_from(["login@x", "id@x", "permit-pty"]),
        value=st.sampled_from(["1", "2", "{{external.gh}}", "{{external.none}}"]),
    ),
    max_size=2,
    unique_by=lambda extension: extension.name,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_session_ttl": DURATIONS,
        "client_idle_timeout": DURATIONS,
        "mfa_verification_interval": DURATIONS,
        "disconnect_expired_cert": BOOLS,
        "max_sessions": COUNTS,
        "max_connections": COUNTS,
        "max_kubernetes_connections": COUNTS,
        "max_db_connections": COUNTS,
        "forward_agent": BOOLS,
        "permit_x11_forwarding": BOOLS,
        "port_forwarding": st.sampled_from([None, True, False]),
        "ssh_port_forwarding": st.none()
        | st.builds(modes, st.sampled_from([None, True, False]), st.sampled_from([None, True, False])),
        "ssh_file_copy": BOOLS,
        "desktop_clipboard": BOOLS,
        "desktop_directory_sharing": BOOLS,
        "record_session": st.builds(
            RecordSession,
            default=st.sampled_from(["strict", "best_effort"]),
            ssh=st.sampled_from(["", "strict", "best_effort"]),
            desktop=BOOLS,
        ),
        "enhanced_recording": st.sampled_from([(), ("disk",), ("command", "network")]),
        "lock": st.sampled_from(["", "strict", "best_effort"]),
        "pin_source_ip": BOOLS,
        "cert_format": st.sampled_from(["standard", "oldssh"]),
        "cert_extensions": EXTENSIONS,
        "require_session_mfa": MFA,
        "device_trust_mode": DEVICES,
        "request_access": st.sampled_from(["", "optional", "reason", "always"]),
        "request_prompt": st.sampled_from(["", "why", "ticket"]),
        "idp": st.builds(IdpOptions, saml=st.builds(SamlIdpOption, enabled=BOOLS)),
    },
)


@st.composite
def role_lists(draw: st.DrawFn, least: int = 0) -> list[Role]:
    found = draw(st.lists(OPTIONS, min_size=least, max_size=4))
    names = draw(st.permutations("abcd"))
    return [role(name, {"logins": ["root"]}, **options) for name, options in zip(names, found, strict=False)]


ROLES = role_lists()
NAMES = st.sets(st.sampled_from("abcd"))
PREFERENCES = st.builds(
    lambda **fields: AuthPreference(metadata=Metadata(name="c"), spec=AuthPreferenceSpec(**fields)),
    disconnect_expired_cert=BOOLS,
    locking_mode=st.sampled_from(["strict", "best_effort"]),
    require_session_mfa=MFA,
    device_trust=st.none() | st.builds(DeviceTrust, mode=DEVICES),
    idp=st.builds(Idp, saml=st.builds(Switch, enabled=BOOLS)),
)
NETWORKS = st.builds(
    lambda idle: NetworkingConfig(metadata=Metadata(name="n"), spec=NetworkingSpec(client_idle_timeout=idle)),
    DURATIONS,
)
TRAITS = {"gh": ("mira",)}


def everything(
    roles: list[Role], names: set[str], preference: AuthPreference, networking: NetworkingConfig
) -> dict[str, Any]:
    """What the code says."""
    on = only(*names)
    merged = merge_options(
        roles, "root", networking=networking, auth_preference=preference, in_force=on, traits=TRAITS
    )
    desk = desktop_options(roles, {}, TRAITS, on)
    request = login_request(roles)
    return {
        **{name: getattr(merged, name) for name in merged.__slots__},
        "clipboard": desk.clipboard,
        "directory_sharing": desk.directory_sharing,
        "record_desktop": desk.record,
        "extensions": cert_extensions(roles, TRAITS, on),
        "mfa_mode": mfa_mode(roles, preference),
        "key_policy": key_policy(roles, preference),
        "saml": allows_saml_idp(roles, preference, on),
        "must_request": request.must_request,
        "reason_required": request.reason_required,
        "prompts": request.prompts,
        "interval": mfa_verification_interval(roles),
        "device": device_mode(roles, preference),
    }


def naive(
    roles: list[Role], names: set[str], preference: AuthPreference, networking: NetworkingConfig
) -> dict[str, Any]:
    """What the table says, read line by line."""
    every = [r.spec.options for r in roles]
    on = [r.spec.options for r in roles if r.name in names]
    cluster = preference.spec

    def least(values: list[float]) -> float:
        found = sorted(value for value in values if value > 0)
        return found[0] if found else 0

    def lasting(name: str) -> list[float]:
        return [parse_duration(getattr(option, name)) for option in every]

    def forwarding(direction: str) -> bool:
        said = []
        for r in roles:
            option = r.spec.options
            word = None
            if option.ssh_port_forwarding is not None:
                word = getattr(option.ssh_port_forwarding, direction).enabled
            legacy = option.port_forwarding
            if legacy is True:
                said.append("yes" if r.name in names else "nothing")
            elif word is False:
                said.append("no")
            elif word is True or legacy is None:
                said.append("yes" if r.name in names else "nothing")
        return "no" not in said and "yes" in said

    ttl = least(lasting("max_session_ttl")) or 30 * 3600
    locks = {option.lock for option in every}
    ssh = {option.record_session.ssh for option in every}
    strictest = any(option.record_session.default == "strict" for option in every)
    asked = {str(value) for value in (cluster.require_session_mfa, *(o.require_session_mfa for o in every))}
    touch, pin = "hardware_key_touch" in asked, "hardware_key_pin" in asked
    policy = "hardware_key" if touch or pin or "hardware_key" in asked else "none"
    policy += "_touch_and_pin" if touch and pin else "_touch" if touch else "_pin" if pin else ""
    off = (False, "", "off")
    some = any(option.require_session_mfa not in off for option in every)
    devices = {option.device_trust_mode for option in every}
    devices |= {cluster.device_trust.mode} if cluster.device_trust is not None else set()
    extensions: dict[str, str] = {}
    for r in sorted((r for r in roles if r.name in names), key=lambda r: r.name):
        for extension in r.spec.options.cert_extensions:
            value = {"{{external.gh}}": "mira", "{{external.none}}": ""}.get(extension.value, extension.value)
            if value and extension.name != "permit-pty":
                extensions[extension.name] = value
    prompts = [r.spec.options.request_prompt for r in sorted(roles, key=lambda r: r.name)]
    if "strict" in locks:
        lock = "strict"
    elif any(option.lock for option in on):
        lock = "best_effort"
    else:
        lock = cluster.locking_mode
    return {
        "max_session_ttl_s": ttl,
        "forward_agent": any(option.forward_agent for option in on),
        "port_forward_local": forwarding("local"),
        "port_forward_remote": forwarding("remote"),
        "x11": any(option.permit_x11_forwarding for option in on),
        "file_copy": bool(on) and all(option.ssh_file_copy for option in every),
        "client_idle_timeout_s": least(
            [*lasting("client_idle_timeout"), parse_duration(networking.spec.client_idle_timeout)]
        ),
        "disconnect_expired_cert": cluster.disconnect_expired_cert
        or any(option.disconnect_expired_cert for option in every),
        "max_sessions": least([option.max_sessions for option in every]),
        "max_connections": least([option.max_connections for option in every]),
        "max_kubernetes_connections": least([option.max_kubernetes_connections for option in every]),
        "max_db_connections": least([option.max_db_connections for option in every]),
        "record_strict": "strict" in ssh or (not any(o.record_session.ssh for o in on) and strictest),
        "record_strict_default": strictest,
        "pin_source_ip": any(option.pin_source_ip for option in every),
        "lock_mode": lock,
        "cert_format": "oldssh" if any(o.cert_format == "oldssh" for o in on) else "standard",
        "enhanced_recording": {event for option in every for event in option.enhanced_recording},
        "clipboard": bool(on) and all(option.desktop_clipboard for option in every),
        "directory_sharing": bool(on) and all(option.desktop_directory_sharing for option in every),
        "record_desktop": any(option.record_session.desktop for option in every),
        "extensions": extensions,
        "mfa_mode": "always" if cluster.require_session_mfa not in off else "per-role" if some else "never",
        "key_policy": policy,
        "saml": cluster.idp.saml.enabled and bool(on) and all(o.idp.saml.enabled for o in every),
        "must_request": any(option.request_access in ("always", "reason") for option in every),
        "reason_required": any(option.request_access == "reason" for option in every),
        "prompts": tuple(dict.fromkeys(prompt for prompt in prompts if prompt)),
        "interval": min(least(lasting("mfa_verification_interval")) or ttl, ttl),
        "device": "required" if "required" in devices else "optional" if "optional" in devices else "off",
    }


GRANTS = ("forward_agent", "port_forward_local", "port_forward_remote", "x11", "file_copy")
GRANTS += ("clipboard", "directory_sharing", "saml")


@given(ROLES, NAMES, PREFERENCES, NETWORKS)
@settings(max_examples=examples(150))
def test_every_merge_is_what_the_table_says(
    roles: list[Role], names: set[str], preference: AuthPreference, networking: NetworkingConfig
) -> None:
    assert everything(roles, names, preference, networking) == naive(roles, names, preference, networking)


@settings(max_examples=examples(50))
@given(ROLES.flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))), NAMES, PREFERENCES, NETWORKS)
def test_the_order_of_roles_changes_nothing(
    orders: tuple[list[Role], list[Role]],
    names: set[str],
    preference: AuthPreference,
    networking: NetworkingConfig,
) -> None:
    one, other = orders
    rest = (names, preference, networking)
    assert everything(one, *rest) == everything(other, *rest)


@settings(max_examples=examples(50))
@given(ROLES, NAMES, PREFERENCES, NETWORKS)
def test_the_implicit_role_changes_nothing(
    roles: list[Role], names: set[str], preference: AuthPreference, networking: NetworkingConfig
) -> None:
    """Neither widens it what is enough in one role, nor does it refuse what all must allow."""
    rest = (names, preference, networking)
    assert everything([*roles, IMPLICIT_ROLE], *rest) == everything(roles, *rest)


@settings(max_examples=examples(50))
@given(ROLES, NAMES, st.sampled_from("abcd"), PREFERENCES, NETWORKS)
def test_fewer_roles_in_force_never_give_more(
    roles: list[Role],
    names: set[str],
    gone: str,
    preference: AuthPreference,
    networking: NetworkingConfig,
) -> None:
    more = everything(roles, names, preference, networking)
    fewer = everything(roles, names - {gone}, preference, networking)
    for grant in GRANTS:
        assert more[grant] or not fewer[grant], grant
    assert fewer["record_strict"] or not more["record_strict"]
    assert fewer["lock_mode"] == "strict" or more["lock_mode"] == "best_effort"
    for restriction in ("max_session_ttl_s", "client_idle_timeout_s", "max_sessions", "pin_source_ip"):
        assert fewer[restriction] == more[restriction]


@settings(max_examples=examples(50))
@given(ROLES, role_lists(least=1), PREFERENCES, NETWORKS)
def test_a_role_that_is_not_in_force_only_takes_away(
    roles: list[Role], others: list[Role], preference: AuthPreference, networking: NetworkingConfig
) -> None:
    """Against the same set without it."""
    dormant = role("dormant", {"logins": ["root"]}, **_options(others[0]))
    names = {found.name for found in roles}
    with_it = everything([*roles, dormant], names, preference, networking)
    without = everything(roles, names, preference, networking)
    for grant in GRANTS:
        assert without[grant] or not with_it[grant], grant
    assert set(with_it["extensions"].items()) <= set(without["extensions"].items())
    assert with_it["max_session_ttl_s"] <= without["max_session_ttl_s"]


def _options(found: Role) -> dict[str, Any]:
    options = found.spec.options
    return {name: getattr(options, name) for name in options.__struct_fields__}
