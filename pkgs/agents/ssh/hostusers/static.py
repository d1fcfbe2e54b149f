"""`static_host_user` resources: accounts that the cluster wants here whether anybody is logged in or not.

Brought about when the view of the cluster or the labels of this host change. A resource that is gone, or that
means this host no longer, leaves its account as it is and takes its rights of sudo away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.limits import UID_MIN
from pkgs.agents.ssh.hostusers.wanted import STATIC, Wanted, clean_groups, clean_sudoers
from pkgs.common.access.contexts.labelexpr import compile_label_expression
from pkgs.common.access.matching.labels import compile_selector
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.resources.kinds import StaticHostUser
from pkgs.common.resources.kinds.upkeep import HostUserMatcher

Desired = Callable[[], tuple[Sequence[StaticHostUser], Mapping[str, str]]]
"""The resources and the labels of this host, as they are now."""


def wanted_here(user: StaticHostUser, labels: Mapping[str, str]) -> Wanted | None:
    """What a resource wants on a host with these labels; None: nothing. Raises DeniedError where it wants two
    things at once or one that must not be, InputError for what is not understood."""
    found = [matcher for matcher in user.spec.matchers if _matches(matcher, labels)]
    if len(found) > 1:
        raise DeniedError(f"{len(found)} matchers of static_host_user/{user.name} match this host")
    if not found:
        return None
    one = found[0]
    if any(number and number < UID_MIN for number in (one.uid, one.gid)):
        raise DeniedError(f"static_host_user/{user.name}: ids below {UID_MIN} are the system's")
    return Wanted(
        marker=STATIC,
        groups=clean_groups(one.groups),
        sudoers=clean_sudoers(one.sudoers),
        shell=one.default_shell,
        uid=one.uid or None,
        gid=one.gid or None,
        take_ownership=one.take_ownership_if_user_exists,
    )


def _matches(matcher: HostUserMatcher, labels: Mapping[str, str]) -> bool:
    """Labels and expression, each where it is given, must hold."""
    if not matcher.node_labels and not matcher.node_labels_expression:
        return False
    if matcher.node_labels:
        selector = compile_selector({each.name: each.values for each in matcher.node_labels}, {})
        if not selector.matches(labels):
            return False
    expression = matcher.node_labels_expression
    return not expression or compile_label_expression(expression, {}, deny=False)(labels)


class StaticUsers:
    def __init__(self, users: HostUsers, desired: Desired, log: logging.Logger) -> None:
        self._users = users
        self._desired = desired
        self._log = log
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._changed.set()
        self._task = asyncio.create_task(self._keep(), name="static host users")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def changed(self) -> None:
        """Resources or labels may be others."""
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.reconcile()

    async def reconcile(self) -> None:
        resources, labels = self._desired()
        kept: set[str] = set()
        for user in resources:
            try:
                wanted = wanted_here(user, labels)
                if wanted is None:
                    continue
                kept.add(user.name)
                await self._ensure(user.name, wanted)
            except AccessError as problem:
                self._log.error(
                    "a static host user is not brought about: %s", problem, extra={"login": user.name}
                )
        try:
            for login in await self._users.run(lambda: self._users.accounts.drop_static(kept)):
                self._log.info("a static host user is none any more", extra={"login": login})
        except AccessError as problem:
            self._log.error("rights of sudo are not taken away: %s", problem)

    async def _ensure(self, login: str, wanted: Wanted) -> None:
        outcome = await self._users.run(lambda: self._users.accounts.ensure(login, wanted))
        if outcome == "not ours":
            raise DeniedError(
                f"the account {login} exists already",
                hint="take_ownership_if_user_exists: true takes it over",
            )
        if outcome != "same":
            self._log.info("a static host user is %s", outcome, extra={"login": login})
