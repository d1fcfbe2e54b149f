"""One law over everything that issues: by whatever sequence of renewing, taking on users or roles, and
changes of roles, users and bots somebody came to a certificate, it says no more than the checks allow at that
moment, and no restriction of the certificate it was made with has gone or grown.

Real handlers of a real Auth Service do the work; what they may give is worked out here once more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.api.bots import CreateBot, ImpersonateRoles, JoinBot, RenewBotCerts
from pkgs.common.api.login import ReissueUserCerts, SignUserCerts
from pkgs.common.api.requests import CreateAccessRequest, SetAccessRequestState
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import AccessError
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.resources.kinds import AccessRequest, Bot, Lock, LockSpec, LockTarget, User, UserSpec
from pkgs.common.resources.kinds.machines import BotSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    Conditions,
    Impersonate,
    LabelValues,
    RequestConditions,
    Role,
    RoleOptions,
    RoleSpec,
)  # fmt: skip
from pkgs.common.rpc.calls import Caller
from tests.harness.examples import examples
from tests.harness.impersonation import second_opinion
from tests.integration.auth_kit import Kit, auth
from tests.integration.bots_kit import x509_der

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
SSH_KEY, TLS_KEY = new_ssh_key(), new_tls_key()
KEYS = {"ssh_public_key": SSH_KEY.public_line, "tls_public_key": TLS_KEY.public_pem}
LOGINS = ("root", "deploy")
LIVES = {"10m": 600.0, "1h": 3600.0, "8h": 8 * 3600.0}
PEOPLE = ("ann", "ben")
ROLES = ("r0", "r1", "r2", "r3")
SAME = (
    *("source_addr", "mfa_device", "device_id", "device_asset_tag", "active_requests", "allowed_resources"),
    *("bot_name", "bot_instance_id", "join_token", "cluster"),
)
"""What a certificate has in common with everything that is made with it."""


class RoleMade(msgspec.Struct, frozen=True):
    """A role as a test draws it."""

    logins: tuple[str, ...]
    life: str
    pins: bool
    allow: Impersonate | None
    deny: Impersonate | None
    asks: tuple[str, ...] = ()
    """Roles that may be requested."""


NAMED = st.sampled_from(["*", *ROLES])
WHOM = st.sampled_from(["*", *PEOPLE])
ALLOWED = st.one_of(
    st.none(),
    st.builds(Impersonate, roles=st.lists(NAMED, min_size=1, max_size=3)),
    st.builds(
        Impersonate,
        users=st.lists(WHOM, min_size=1, max_size=2),
        roles=st.lists(NAMED, min_size=1, max_size=3),
    ),
)
DENIED = st.one_of(
    *[st.none()] * 4, st.builds(Impersonate, roles=st.lists(st.sampled_from(ROLES), max_size=1))
)
ROLE = st.builds(
    RoleMade,
    logins=st.lists(st.sampled_from([*LOGINS, "{{internal.logins}}"]), max_size=2).map(tuple),
    life=st.sampled_from(sorted(LIVES)),
    pins=st.booleans(),
    allow=ALLOWED,
    deny=DENIED,
    asks=st.lists(st.sampled_from(ROLES), max_size=2).map(tuple),
)
HOLDING = st.tuples(
    st.lists(st.sampled_from(ROLES), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(LOGINS), max_size=2, unique=True),
)
PASSED_ON = {
    "source_addr": st.just(HERE),
    "mfa_device": st.just("d1"),
    "device_id": st.just("d2"),
    "device_asset_tag": st.just("tag"),
    "active_requests": st.just(("q1",)),
}
IN_THE_WAY = {
    "source_addr": st.just(ELSEWHERE),
    "allowed_resources": st.just(("/alpha.example/node/x",)),
    "disallow_reissue": st.just(True),
    "impersonator": st.just("ben"),
}
RESTRICTED = st.one_of(
    st.fixed_dictionaries({}, optional=PASSED_ON),
    st.fixed_dictionaries({}, optional=PASSED_ON),
    st.fixed_dictionaries({}, optional={**PASSED_ON, **IN_THE_WAY}),
)
PICK = st.integers(0, 1 << 16)
STEP = st.one_of(
    st.tuples(st.just("renew"), PICK, st.sampled_from([0, 300, 90_000])),
    st.tuples(st.just("take user"), PICK, st.sampled_from(PEOPLE)),
    st.tuples(st.just("take user"), PICK, st.sampled_from(PEOPLE)),
    st.tuples(st.just("take roles"), PICK, st.lists(st.sampled_from(ROLES), max_size=2, unique=True)),
    st.tuples(st.just("take roles"), PICK, st.lists(st.sampled_from(ROLES), max_size=1)),
    st.tuples(st.just("renew machine"), PICK, st.just(None)),
    st.tuples(st.just("edit role"), st.sampled_from(ROLES), ROLE),
    st.tuples(st.just("edit user"), st.sampled_from(PEOPLE), HOLDING),
    st.tuples(st.just("edit bot"), st.just("bot"), HOLDING),
    st.tuples(st.just("lock"), st.sampled_from(PEOPLE), st.just(None)),
    st.tuples(st.just("wait"), st.sampled_from([30.0, 1500.0]), st.just(None)),
    st.tuples(st.just("ask"), PICK, st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True)),
    st.tuples(st.just("decide"), PICK, st.sampled_from(["APPROVED", "APPROVED", "DENIED"])),
    st.tuples(st.just("assume"), PICK, PICK),
    st.tuples(st.just("drop"), PICK, st.just(None)),
)


BEGINNING: tuple[tuple[str, Any, Any], ...] = (
    ("take user", 0, "ben"),
    ("take roles", 2, []),
    ("renew machine", 2, None),
    ("renew", 0, 300),
    ("ask", 0, ["r3"]),
    ("decide", 0, "APPROVED"),
    ("assume", 0, 0),
)
"""What nearly every story can begin with, so that no run of the test is about refusals only."""


@dataclass
class World:
    """A corner of the cluster with names of its own, as it should be."""

    kit: Kit
    prefix: str
    roles: dict[str, RoleMade] = field(default_factory=dict)
    held: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """Roles and logins of each person, and of the bot."""
    certs: list[Identity] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def name(self, short: str) -> str:
        return self.prefix + short

    def named(self, names: Sequence[str]) -> list[str]:
        return [name if name == "*" else self.name(name) for name in names]

    async def put(self, resource: Any) -> None:
        admin = Caller(identity=None, admin=True)
        await self.kit.service.handlers.resources.put(admin, PutResource(resource=resource, mode="upsert"))

    async def edit_role(self, short: str, made: RoleMade) -> None:
        self.roles[short] = made
        sides = [
            side and Impersonate(users=self.named(side.users), roles=self.named(side.roles))
            for side in (made.allow, made.deny)
        ]
        spec = RoleSpec(
            options=RoleOptions(max_session_ttl=made.life, pin_source_ip=made.pins),
            allow=Conditions(
                logins=list(made.logins),
                impersonate=sides[0],
                request=RequestConditions(roles=self.named(made.asks)) if made.asks else None,
            ),
            deny=Conditions(impersonate=sides[1]),
        )
        await self.put(Role(metadata=Metadata(name=self.name(short)), spec=spec))

    async def edit_user(self, short: str, holding: tuple[list[str], list[str]]) -> None:
        self.held[short] = holding
        spec = UserSpec(roles=self.named(holding[0]), traits={"logins": holding[1]})
        await self.put(User(metadata=Metadata(name=self.name(short)), spec=spec))

    async def edit_bot(self, holding: tuple[list[str], list[str]]) -> None:
        self.held["bot"] = holding
        spec = BotSpec(roles=self.named(holding[0]), traits=[LabelValues(name="logins", values=holding[1])])
        await self.put(Bot(metadata=Metadata(name=self.name("bot")), spec=spec))

    def short(self, name: str) -> str:
        return name.removeprefix("bot-").removeprefix(self.prefix)

    def read(self, certs: Any) -> Identity:
        """What a stranger reads; both forms must say the same."""
        trust, now = self.kit.service.authorities.trust, self.kit.clock.now()
        tls = x509.verify_peer(x509_der(certs.tls_cert), trust=trust, now=now)
        ssh = sshcert.verify_user_cert(
            sshcert.line_to_blob(certs.ssh_cert),
            trust=trust,
            login=None,
            source_addr=tls.source_addr or HERE,
            now=now,
        )
        for name in (*SAME, "name", "roles", "traits", "logins", "impersonator", "disallow_reissue"):
            assert getattr(ssh, name) == getattr(tls, name), name
        return tls


async def first_certs(world: World, restricted: list[dict[str, Any]]) -> None:
    """A certificate per person, as a login gives it or restricted further, and one of a machine."""
    handlers, now = world.kit.service.handlers, world.kit.clock.now()
    for short, restrictions in zip(PEOPLE, restricted, strict=True):
        names, logins = world.held[short]
        if "impersonator" in restrictions:
            restrictions = {**restrictions, "impersonator": world.name("ben")}
        spec = UserCertSpec(
            user=world.name(short),
            cluster="alpha.example",
            roles=tuple(world.named(names)),
            traits={"logins": tuple(logins)} if logins else {},
            logins=LOGINS,
            valid_after=now - 60,
            valid_before=now + 3600,
            **restrictions,
        )
        cert = x509.sign_user_tls(world.kit.service.authorities.user_tls, spec, TLS_KEY.public_pem)
        world.certs.append(
            x509.verify_peer(x509_der(cert), trust=world.kit.service.authorities.trust, now=now)
        )
    admin = Caller(identity=None, admin=True)
    token = (await handlers.bots.create(admin, CreateBot(name=world.name("bot")))).token
    joined = await handlers.machines.join(admin, JoinBot(token=token, **KEYS))
    world.certs.append(world.read(joined.certs))


async def play(world: World, step: tuple[str, Any, Any]) -> None:
    what, which, how = step
    if what == "edit role":
        await world.edit_role(which, how)
    elif what == "edit user":
        await world.edit_user(which, how)
    elif what == "edit bot":
        await world.edit_bot(how)
    elif what == "wait":
        world.kit.clock.ahead += which
    elif what == "lock":
        target = LockTarget(user=world.name(which))
        expires = datetime.fromtimestamp(world.kit.clock.now() + 20, UTC)
        spec = LockSpec(target=target, expires=expires)
        await world.put(Lock(metadata=Metadata(name=world.name("lock")), spec=spec))
    elif what == "ask":
        await ask(world, world.certs[which % len(world.certs)], how)
    elif what == "decide":
        await settle(world, which, how)
    else:
        await issue(world, what, world.certs[which % len(world.certs)], how)


async def ask(world: World, who: Identity, roles: list[str]) -> None:
    wanted = CreateAccessRequest(roles=world.named(roles))
    try:
        world.kit.service.permissions.admit(Caller(identity=who, remote_addr=HERE))
        made = await world.kit.service.handlers.requests.create(
            Caller(identity=who, remote_addr=HERE), wanted
        )
    except AccessError:
        return
    # Only what the standing roles let somebody ask for, and never by a certificate of somebody else's making.
    held = world.held[world.short(who.name)][0]
    asking = {name for short in held for name in world.roles[short].asks}
    assert set(roles) <= asking and not who.impersonator and not who.renewable
    world.requests.append(made.request.name)


async def settle(world: World, which: int, state: Any) -> None:
    if not world.requests:
        return
    wanted = SetAccessRequestState(id=world.requests[which % len(world.requests)], state=state)
    try:
        await world.kit.service.handlers.deciding.set_state(Caller(identity=None, admin=True), wanted)
    except AccessError:
        return


async def issue(world: World, what: str, parent: Identity, how: Any) -> None:
    handlers, asked = world.kit.service.handlers, world.kit.clock.now()
    caller = Caller(identity=parent, remote_addr=HERE)
    try:
        renewing = what in ("renew", "assume", "drop")
        world.kit.service.permissions.admit(caller, stale_requests=renewing)
        if what == "renew":
            certs = await handlers.signing.reissue(caller, ReissueUserCerts(**KEYS, ttl_s=how))
        elif what == "assume":
            wanted_id = world.requests[how % len(world.requests)] if world.requests else "none"
            asked_for = ReissueUserCerts(**KEYS, ttl_s=90_000, assume=[wanted_id])
            certs = await handlers.signing.reissue(caller, asked_for)
        elif what == "drop":
            certs = await handlers.signing.reissue(caller, ReissueUserCerts(**KEYS, drop=["*"]))
        elif what == "take user":
            request = SignUserCerts(user=world.name(how), **KEYS, ttl_s=90_000)
            certs = await handlers.signing.sign_user(caller, request)
        elif what == "take roles":
            wanted = ImpersonateRoles(roles=world.named(how), **KEYS, ttl_s=90_000)
            certs = await handlers.impersonation.impersonate_roles(caller, wanted)
        else:
            certs = (await handlers.machines.renew(caller, RenewBotCerts(**KEYS))).certs
    except AccessError:
        return
    world.done[what] += 1
    child = world.read(certs)
    assert asked < parent.expires_at
    check(world, what, parent, child, how, world.kit.clock.now())
    world.certs.append(child)


def check(world: World, what: str, parent: Identity, child: Identity, how: Any, now: float) -> None:
    """The law. `now` is just after the answer: time goes on while it is made."""
    assert parent.source_addr in ("", HERE)
    pinning = any(world.roles[world.short(name)].pins for name in child.roles if world.short(name) in ROLES)
    renewed = what in ("renew", "assume", "drop")
    given = approved(world, child, now)
    if renewed:
        kept = () if what == "drop" else parent.active_requests
        assert set(kept) <= set(child.active_requests)
        assert set(child.active_requests) - set(kept) <= set(given)
        assert what == "assume" or child.active_requests == kept
        assert child.expires_at <= min([parent.expires_at, *(given[name][1] for name in given)])
    for name in SAME:
        before, after = getattr(parent, name), getattr(child, name)
        if name == "active_requests" and renewed:
            continue
        if name == "source_addr" and not before:
            assert after == (HERE if pinning else "")
        else:
            assert after == before, name
    assert not parent.disallow_reissue
    names = [world.short(name) for name in child.roles]
    if what == "renew machine":
        assert parent.renewable
        assert child.generation == parent.generation + 1
        assert child.expires_at <= now + 3600
    else:
        assert child.expires_at <= parent.expires_at
        assert not child.renewable
        assert child.expires_at <= now + min(LIVES[world.roles[name].life] for name in names)
    if renewed:
        assert child.name == parent.name
        assert child.impersonator == parent.impersonator
        added = {role for roles, _ in given.values() for role in roles}
        standing = set(world.named(world.held[world.short(child.name)][0]))
        assert set(child.roles) <= (set(parent.roles) & standing) | added
        logins = {login for role in added for login in world.roles[world.short(role)].logins}
        logins |= set(child.traits.get("logins", ())) if "{{internal.logins}}" in logins else set()
        assert granted(child) <= granted(parent) | logins
    if what in ("take user", "take roles"):
        assert child.impersonator == parent.name
        assert not parent.impersonator
        assert parent.allowed_resources is None
        user = child.name if what == "take user" else None
        assert second_opinion(blocks(world, parent), user, child.roles)
    if what == "take user":
        assert child.name == world.name(how) != parent.name
        assert sorted(names) == sorted(world.held[how][0])
    if what == "take roles":
        assert child.name == parent.name
        assert child.disallow_reissue
        assert sorted(names) == sorted(how or world.held["bot"][0])
    logins = world.held[world.short(child.name)][1]
    assert set(child.traits.get("logins", ())) <= set(logins)
    allowed = {login for name in names if name in ROLES for login in world.roles[name].logins}
    if "{{internal.logins}}" in allowed:
        allowed |= set(child.traits.get("logins", ()))
    assert granted(child) <= allowed


def approved(world: World, who: Identity, now: float) -> dict[str, tuple[list[str], float]]:
    """Roles and end of each request of a certificate that counts at this moment."""
    found = {}
    for name in who.active_requests:
        request = world.kit.service.store.get("access_request", name)
        if not isinstance(request, AccessRequest):
            continue
        spec = request.spec
        if spec.user == who.name and spec.state == "APPROVED" and spec.max_duration is not None:
            ends = spec.max_duration.timestamp()
            if ends > now:
                found[name] = (spec.roles, ends)
    return found


def blocks(world: World, who: Identity) -> list[tuple[Impersonate | None, Impersonate | None]]:
    found: list[tuple[Impersonate | None, Impersonate | None]] = []
    for name in who.roles:
        short = world.short(name)
        if short == "bot":
            taken = world.held["bot"][0]
            found.append((Impersonate(roles=world.named(taken)) if taken else None, None))
            continue
        sides = [
            side and Impersonate(users=world.named(side.users), roles=world.named(side.roles))
            for side in (world.roles[short].allow, world.roles[short].deny)
        ]
        found.append((sides[0], sides[1]))
    return found


def granted(who: Identity) -> set[str]:
    return {login for login in who.logins if not login.startswith("no-login-")}


def test_a34_restrictions_only_shrink(short_tmp: Path) -> None:
    done: Counter[str] = Counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        kit = runner.run(stack.enter_async_context(auth(short_tmp)))
        number = 0

        async def story(
            roles: list[RoleMade],
            holdings: list[tuple[list[str], list[str]]],
            restricted: list[dict[str, Any]],
            steps: list[tuple[str, Any, Any]],
        ) -> None:
            world = World(kit, f"w{number}-", done=done)
            for short, made in zip(ROLES, roles, strict=True):
                await world.edit_role(short, made)
            # The story begins with somebody who may much, and loses it.
            allow = Impersonate(users=["*"], roles=["*"])
            generous = msgspec.structs.replace(roles[0], allow=allow, deny=None, asks=("r3",))
            await world.edit_role("r0", generous)
            for short, holding in zip(PEOPLE, holdings, strict=False):
                await world.edit_user(short, holding)
            await world.edit_user("ann", (["r0"], holdings[0][1]))
            world.held["bot"] = ([], [])
            await first_certs(world, restricted)
            await world.edit_bot(holdings[-1])
            for step in (*BEGINNING, *steps):
                await play(world, step)

        @settings(max_examples=examples(80))
        @given(
            st.lists(ROLE, min_size=len(ROLES), max_size=len(ROLES)),
            st.lists(HOLDING, min_size=3, max_size=3),
            st.lists(RESTRICTED, min_size=2, max_size=2),
            st.lists(STEP, min_size=4, max_size=14),
        )
        def stories(roles: Any, holdings: Any, restricted: Any, steps: Any) -> None:
            nonlocal number
            number += 1
            runner.run(story(roles, holdings, restricted, steps))

        try:
            stories()
        finally:
            runner.run(stack.aclose())
    # A law that nothing was held against would hold as well.
    for what in ("renew", "take user", "take roles", "renew machine", "assume"):
        assert done[what] >= 10, done
