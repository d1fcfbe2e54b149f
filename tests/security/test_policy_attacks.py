"""Attacks by templates, on joining sessions, and from other clusters: A22, A24, A25, A30, A44."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from pkgs.auth.issuing.issue import MODIFIERS, Order, start
from pkgs.common.access.decide import decide
from pkgs.common.access.joining import Participant, begin, may_join, may_run
from pkgs.common.access.matching.matchers import compile_matcher
from pkgs.common.access.options.desktop import desktop_options
from pkgs.common.access.options.hostuser import host_user
from pkgs.common.access.options.login import cert_extensions
from pkgs.common.access.options.merge import selects
from pkgs.common.access.options.principals import PrincipalKind, principals_for
from pkgs.common.access.protocols import db
from pkgs.common.access.protocols.grants import Protocol
from pkgs.common.access.rolemap import as_local
from pkgs.common.access.roleset import compile_roles
from pkgs.common.access.types import Environment, SshLogin, Subject
from pkgs.common.errors import DeniedError, InputError, TrustError
from pkgs.common.membership.member import Member
from pkgs.common.pki import certspec, sshcert, x509
from pkgs.common.pki.authority import new_authority, without_secrets
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.ssh import ext
from pkgs.common.pki.ssh.key import line_to_blob
from pkgs.common.pki.ssh.parse import parse_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import Node, ServerSpec, TrustedCluster
from pkgs.common.resources.kinds.clusters import RoleMapping, TrustedClusterSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_extension_name
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import CertExtension, Conditions, JoinPolicy, RequirePolicy, Role
from pkgs.common.rpc.calls import Caller
from pkgs.common.ssh.service.gate import Gate
from tests.harness.pace import assert_takes_under
from tests.harness.wait import until
from tests.integration.auth_kit import auth, run
from tests.integration.membership_kit import leaf_der, process_of, small_auth
from tests.integration.membership_kit import node as node_resource
from tests.unit.access.access_kit import role

# A24, A25: one function per templated field: what a template in it gives with these traits.

Traits = dict[str, tuple[str, ...]]
TEMPLATE = "{{external.t}}"
DEV = {"env": "dev"}
CANDIDATES = ("root", "secret", "anything", "x")


def principal(kind: PrincipalKind) -> Callable[[Traits], set[str]]:
    return lambda traits: set(principals_for(kind, [role("r", {kind: [TEMPLATE]})], traits, 60))


def labels(field: str) -> Callable[[Traits], set[str]]:
    def given(traits: Traits) -> set[str]:
        found = role("r", {field: {"k": TEMPLATE}})
        return {value for value in CANDIDATES if selects(found, Protocol("x", field), {"k": value}, traits)}

    return given


def label_keys(field: str) -> Callable[[Traits], set[str]]:
    def given(traits: Traits) -> set[str]:
        found = role("r", {field: {TEMPLATE: "v"}})
        return {key for key in CANDIDATES if selects(found, Protocol("x", field), {key: "v"}, traits)}

    return given


def of_host(name: str) -> Callable[[Traits], set[str]]:
    def given(traits: Traits) -> set[str]:
        found = role("r", {"node_labels": DEV, name: [TEMPLATE]}, create_host_user_mode="keep")
        return set(getattr(host_user([found], DEV, traits), name.removeprefix("host_")))

    return given


def of_desktop(traits: Traits) -> set[str]:
    found = role("r", {"windows_desktop_labels": DEV, "desktop_groups": [TEMPLATE]}, create_desktop_user=True)
    return set(desktop_options([found], DEV, traits).groups)


def of_database(traits: Traits) -> set[str]:
    found = role("r", {"db_labels": DEV, "db_roles": [TEMPLATE]}, create_db_user=True)
    grants = compile_roles([found], traits).grants(db.PROTOCOL)
    return set(db.auto_user(grants, DEV, Environment(now=1.0)).roles)


def of_matchers(traits: Traits) -> set[str]:
    matchers = compile_matcher([TEMPLATE], traits)
    return {name for name in (*CANDIDATES, *traits["t"][:20]) if name != "*" and matchers.matches(name)}


def of_extensions(traits: Traits) -> set[str]:
    found = role("r", cert_extensions=[CertExtension(name="login@x", value=TEMPLATE)])
    return set(cert_extensions([found], traits).values())


FIELDS: dict[str, Callable[[Traits], set[str]]] = {
    **{kind: principal(kind) for kind in get_args(PrincipalKind)},
    **{name: labels(name) for name in Conditions.__struct_fields__ if name.endswith("_labels")},
    **{f"{n} key": label_keys(n) for n in Conditions.__struct_fields__ if n.endswith("_labels")},
    "host_groups": of_host("host_groups"),
    "host_sudoers": of_host("host_sudoers"),
    "desktop_groups": of_desktop,
    "db_roles": of_database,
    "impersonate": of_matchers,
    "cert_extensions": of_extensions,
}
FIRST_ONLY = {"cert_extensions", *(name for name in FIELDS if name.endswith(" key"))}


@pytest.mark.parametrize("field", sorted(FIELDS))
class TestEveryTemplatedField:
    @pytest.mark.parametrize("value", ["*", "{{internal.logins}}", "^.*$", "s*", "{{external.secret}}"])
    def test_a25_a_trait_is_neither_a_template_nor_a_wildcard(self, field: str, value: str) -> None:
        given = FIELDS[field]({"t": (value,), "logins": ("secret",), "secret": ("secret",)})
        assert given <= {value} - {"*"}, given

    def test_a25_a_plain_trait_is_what_it_says(self, field: str) -> None:
        assert FIELDS[field]({"t": ("root",)}) == {"root"}

    @pytest.mark.parametrize("values", [(), ("",), ("a\nb",), ("\n",)])
    def test_a25_empty_values_and_line_breaks_grant_nothing(
        self, field: str, values: tuple[str, ...]
    ) -> None:
        given = FIELDS[field]({"t": values})
        if field == "impersonate":
            given -= {"a\nb", "\n"}  # A name that no user or role has.
        assert given == set()

    def test_a25_ten_thousand_values(self, field: str) -> None:
        def ask() -> None:
            given = FIELDS[field]({"t": ("x", *(f"v{i}" for i in range(10_000)), "*")})
            assert "*" not in given
            assert "x" in given
            assert field in FIRST_ONLY or "anything" not in given

        assert_takes_under(3.0, ask)


@pytest.mark.parametrize("kind", get_args(PrincipalKind))
def test_a24_deny_wins_in_whatever_role_it_stands(kind: PrincipalKind) -> None:
    roles = [role("a", {kind: ["x", "y"]}), role("b", {kind: ["x"]}, {kind: ["x"]})]
    for order in (roles, roles[::-1]):
        assert principals_for(kind, order, {}, 60) == ("y",)


# A22: custom extensions of certificates.


def order(*roles: Role, **fields: Any) -> Order:
    given: dict[str, Any] = {"user": "mira", "cluster": "alpha", "traits": {}, "now": 1e9, "ttl_s": 3600.0}
    return Order(**{**given, "roles": roles, **fields})


def shaped(of: Order) -> UserCertSpec:
    spec = start(of)
    for modifier in MODIFIERS:
        spec = modifier(of, spec)
    return spec


GITHUB = role(
    "r",
    {"logins": ["root"]},
    cert_extensions=[CertExtension(name="login@github.com", value="{{external.gh}}")],
)


def test_custom_extensions_are_in_the_certificate_and_mean_nothing_to_us() -> None:
    spec = shaped(order(GITHUB, traits={"gh": ("mira-gh", "other")}))
    signer = signers_of(new_authority("user", "alpha", 1e9)).ssh
    assert signer is not None
    blob = line_to_blob(sshcert.sign_user_cert(signer, spec, new_ssh_key().public_line))
    found = parse_cert(blob).extensions
    assert found["login@github.com"] == "mira-gh"
    assert "teleport-roles" in found
    facts = ext.from_extensions(found)
    assert facts.extensions == ("permit-port-forwarding", "permit-pty")
    assert facts.roles == ("r",)


def test_a22_a_certificate_for_some_resources_opens_nothing_elsewhere() -> None:
    previous = Identity(
        kind=PeerKind.USER,
        name="mira",
        cluster="alpha",
        roles=("r",),
        logins=("root",),
        expires_at=1e9 + 900,
        allowed_resources=("/alpha/node/x",),
    )
    spec = shaped(order(GITHUB, traits={"gh": ("mira-gh",)}, previous=previous))
    assert spec.allowed_resources == ("/alpha/node/x",)
    assert "login@github.com" not in ext.to_extensions(spec)
    unbound = msgspec.structs.replace(spec, allowed_resources=None)
    assert ext.to_extensions(unbound)["login@github.com"] == "mira-gh"


RESERVED = sorted(
    {*ext.FLAGS, *ext._READERS}
    | {"no-touch-required", "verify-required", "force-command", "source-address", "private-key-policy"}
    | {
        "Permit-PTY",
        "teleport-device-credential-id",
        "github-id@goteleport.com",
        "x@openssh.com",
        "X-Teleport-Role",
    }
)


@pytest.mark.parametrize("name", [*RESERVED, "", "a b", "a\nb", "ä@x", "a\0b", "x" * 101])
def test_no_role_gives_an_extension_that_somebody_trusts(name: str) -> None:
    assert not valid_extension_name(name)
    found = role("r", {"logins": ["root"]}, cert_extensions=[CertExtension(name=name, value="1")])
    assert cert_extensions([found], {}) == {}
    spec = UserCertSpec(user="m", cluster="a", logins=("root",), valid_after=1.0, valid_before=2.0)
    for extensions in ({name: "1"}, {"login@x": "a\nb"}, {"login@x": ""}, {"login@x": "x" * 1025}):
        with pytest.raises(InputError):
            certspec.check_user_spec(_with(spec, extensions))
    certspec.check_user_spec(_with(spec, {"login@x": "1"}))


def test_a_certificate_has_a_bounded_number_of_extensions() -> None:
    spec = UserCertSpec(user="m", cluster="a", logins=("root",), valid_after=1.0, valid_before=2.0)
    certspec.check_user_spec(_with(spec, {f"e{i}@x": "1" for i in range(32)}))
    with pytest.raises(InputError, match="more than 32"):
        certspec.check_user_spec(_with(spec, {f"e{i}@x": "1" for i in range(33)}))


def _with(spec: UserCertSpec, extensions: dict[str, str]) -> UserCertSpec:
    return msgspec.structs.replace(spec, custom_extensions=extensions)


# A30: joining live sessions.

WATCH = role(
    "watch", {"join_sessions": [JoinPolicy(name="j", roles=["*"], kinds=["ssh"], modes=["observer"])]}
)
EYES = role("prod", {"require_session_join": [RequirePolicy(name="q", kinds=["ssh"], modes=["moderator"])]})


def person(name: str, *roles: str, cluster: str = "demo", **fields: Any) -> Identity:
    return Identity(kind=PeerKind.USER, name=name, cluster=cluster, roles=roles, expires_at=1e12, **fields)


def test_a30_nobody_watches_themselves_and_nobody_types_who_may_watch() -> None:
    session = begin("ssh", person("alice", "prod"), [EYES])
    bob = person("bob", "watch")
    assert may_join(session, Participant(bob, [WATCH], "observer"))
    for mode in ("peer", "moderator"):
        assert not may_join(session, Participant(bob, [WATCH], mode))  # type: ignore[arg-type]
    own = Participant(person("alice", "prod"), [EYES, WATCH], "moderator")
    assert may_join(session, own)
    assert not may_run(session, [own, own, Participant(bob, [WATCH], "observer")])


def test_a30_a_session_that_needs_company_does_not_begin_alone() -> None:
    target = SshLogin(Node(metadata=Metadata(name="n"), spec=ServerSpec(hostname="n")), "root")
    allowing = role("prod", {"logins": ["root"], "node_labels": {"*": "*"}})
    alice = person("alice", "prod", logins=("root",))
    env = Environment(now=1.0)
    assert decide(Subject(alice, [allowing]), target, env)
    decision = decide(Subject(alice, [allowing, EYES]), target, env)
    assert decision.reasons[0].startswith("a role requires others to be present")
    waiting = replace(env, accompanied=True)
    assert decide(Subject(alice, [allowing, EYES]), target, waiting)


# A44: identities of other clusters.


def trusted(remote: str, *local: str) -> TrustedCluster:
    spec = TrustedClusterSpec(role_map=[RoleMapping(remote=remote, local=list(local))])
    return TrustedCluster(metadata=Metadata(name="root.example"), spec=spec)


@pytest.mark.parametrize("remote", ["editor", "access", "*", "^.*$", "guest,editor", "guest\neditor"])
def test_a44_a_role_that_is_not_in_the_map_is_nobodys(remote: str) -> None:
    identity = person("admin", remote, cluster="root.example")
    with pytest.raises(DeniedError, match="no roles mapped"):
        as_local(identity, trusted("guest", "visitor"), cluster="leaf.example", locks=(), now=1.0)


def test_a44_the_roots_word_for_a_local_user_is_not_taken() -> None:
    """Neither as a user of this cluster, nor under the name of one, nor with a session of theirs."""
    alice = person("alice", "guest", cluster="root.example", logins=("root",))
    for claimed in ("leaf.example", "other.example", ""):
        with pytest.raises(DeniedError):
            as_local(
                person("alice", "guest", cluster=claimed),
                trusted("guest", "visitor"),
                cluster="leaf.example",
                locks=(),
                now=1.0,
            )
    here = as_local(alice, trusted("guest", "visitor"), cluster="leaf.example", locks=(), now=1.0)
    assert (here.name, here.cluster) == ("remote-alice-root.example", "root.example")
    session = begin("ssh", person("alice", "prod", cluster="leaf.example"), [role("prod")])
    forged = Participant(alice, [role("visitor")], "peer")
    assert not may_join(session, forged)
    assert not may_join(session, Participant(here, [role("visitor")], "peer"))


def test_a44_a_tls_certificate_cannot_name_another_cluster_than_its_authority() -> None:
    ours, theirs = (new_authority("user", cluster, time.time()) for cluster in ("alpha", "beta"))
    trust = Trust.from_authorities([ours, theirs], "alpha")
    signer = signers_of(theirs).tls
    assert signer is not None
    for claimed in ("alpha", "beta"):
        spec = UserCertSpec(
            user="mira",
            cluster=claimed,
            roles=("access",),
            logins=("root",),
            valid_after=time.time() - 60,
            valid_before=time.time() + 600,
        )
        der = leaf_der(x509.sign_user_tls(signer, spec, new_tls_key().public_pem))
        if claimed == "beta":
            assert x509.verify_peer(der, trust=trust, now=time.time()).cluster == "beta"
        else:
            with pytest.raises(TrustError):
                x509.verify_peer(der, trust=trust, now=time.time())


@pytest.mark.parametrize("allowed", [("/root.example/node/n",), ("/root.example/node/n", "/x/node/n"), ()])
def test_a22_a44_what_was_allowed_in_the_root_is_not_allowed_here(allowed: tuple[str, ...]) -> None:
    """A server of the leaf with the name of one of the root is another server."""
    alice = person("alice", "guest", cluster="root.example", logins=("root",), allowed_resources=allowed)
    here = as_local(alice, trusted("guest", "visitor"), cluster="leaf.example", locks=(), now=1.0)
    everything = role("visitor", {"logins": ["root"], "node_labels": {"*": "*"}})
    target = SshLogin(Node(metadata=Metadata(name="n"), spec=ServerSpec(hostname="n")), "root")
    decision = decide(Subject(here, [everything]), target, Environment(now=1.0))
    assert decision.reasons == ("the certificate is restricted to other resources",)


def test_a44_the_auth_api_knows_no_user_of_another_cluster(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.user("mira")
            permissions = kit.service.permissions
            ours = person("mira", "access", cluster="alpha.example")
            permissions.admit(Caller(identity=ours))
            for cluster in ("beta.example", "", "ALPHA.example", "alpha.example."):
                stranger = person("mira", "access", "editor", cluster=cluster)
                with pytest.raises(DeniedError, match="does not know you"):
                    permissions.admit(Caller(identity=stranger))

    run(main)


def test_a44_the_ssh_agent_lets_nobody_of_another_cluster_in(tmp_path: Path, short_tmp: Path) -> None:
    """Not with a certificate of an unknown authority, and not with one of an authority that is known as
    another cluster's, whatever role and user it names."""

    async def main() -> None:
        async with small_auth(short_tmp) as small:
            small.put(next(found for found in preset_roles() if found.name == "access"))
            process = process_of(tmp_path / "n", auth=small.addr, pin=small.pin)
            member = await Member.start(process, SystemRole.NODE)
            try:
                here = node_resource("99999999-2222-4333-8444-555555555555")
                gate = Gate(member.cache, lambda: here, time.time)
                ours, theirs = small.authorities[1], new_authority("user", "beta", time.time())

                def verdict(authority: Any, cluster: str) -> Any:
                    signer = signers_of(authority).ssh
                    assert signer is not None
                    spec = UserCertSpec(
                        user="mira",
                        cluster=cluster,
                        roles=("access",),
                        traits={"logins": ("root",)},
                        logins=("root",),
                        valid_after=time.time() - 60,
                        valid_before=time.time() + 600,
                        route_to_cluster="alpha",
                    )
                    line = sshcert.sign_user_cert(signer, spec, new_ssh_key().public_line)
                    return gate.verdict("root", line_to_blob(line), "192.0.2.1")

                assert verdict(ours, "alpha").identity is not None
                unknown = verdict(theirs, "alpha")
                assert unknown.identity is None
                small.put(without_secrets(theirs))
                await until(lambda: len(member.cache.trust.ssh_keys("user")) == 2)
                for claimed in ("alpha", "beta"):
                    refused = verdict(theirs, claimed)
                    assert refused.identity is None
                    assert "not a user of this cluster" in refused.reason
                assert verdict(ours, "alpha").identity is not None
            finally:
                await member.close()

    run(lambda: asyncio.wait_for(main(), 60))
