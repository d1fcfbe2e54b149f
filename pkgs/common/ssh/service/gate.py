"""Who may log in to a server, and what they may do there: every question, answered from the cache.

Certificate -> identity -> current roles -> locks -> decision, always in this order and always in this file;
asked when a certificate is offered, when it is proven, again for every session and forwarding, and again and
again while the connection lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import why_not
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.access.options.commands import Confinement, confinement
from pkgs.common.access.options.forwarding import ANYWHERE, Destinations, destinations
from pkgs.common.access.options.hostuser import HostUser, host_user
from pkgs.common.access.options.merge import InForce, refusing, serving
from pkgs.common.access.types import Decision, Environment, SshLogin, Subject
from pkgs.common.errors import AccessError, DeniedError, InputError
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.sshcert import unverified_facts, verify_user_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import AuthPreference, Lock, NetworkingConfig, Node, RecordingConfig
from pkgs.common.resources.kinds.settings import PROXY_MODES
from pkgs.common.resources.role import Role
from pkgs.common.ssh.process.monitor import Verdict
from pkgs.common.ssh.service.client import Client

NO_LONGER = "access is no longer allowed"
"""What a user reads whose connection ends, where nothing more may be said."""
EXPIRED = "the certificate has expired"

A = TypeVar("A", covariant=True)


class Cache(Protocol):
    """What is asked of a service's view of the cluster."""

    @property
    def trust(self) -> Trust: ...
    @property
    def cluster_name(self) -> str: ...
    @property
    def locks(self) -> Sequence[Lock]: ...
    @property
    def auth_preference(self) -> AuthPreference: ...
    @property
    def networking(self) -> NetworkingConfig: ...
    @property
    def recording_config(self) -> RecordingConfig: ...
    @property
    def stale_for_s(self) -> float: ...
    def roles_of(self, identity: Identity) -> tuple[Role, ...]: ...


class _Question(Protocol[A]):
    """About one login on one server: roles that do not count now allow nothing, and may still refuse."""

    def __call__(
        self,
        roles: Sequence[Role],
        labels: Mapping[str, str],
        login: str,
        traits: Traits,
        *,
        in_force: InForce,
        refusing: InForce,
    ) -> A: ...


@dataclass(frozen=True, slots=True)
class ForwardingRights:
    """What a connection may forward; with nothing allowed, why for the audit and a text for the user."""

    local: bool = False
    """To destinations of the client's choice."""
    remote: bool = False
    """From ports of this host."""
    agent: bool = False
    displays: range = range(0)
    """Numbers that an X11 display may have; none: there may be none."""
    to: Destinations = ANYWHERE
    why: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """Answers for one server."""

    cache: Cache
    node: Callable[[], Node]
    """The server as it is now: its labels change. Raises DeniedError when it is gone."""
    now: Callable[[], float]
    file_copy: bool = True
    """The server's own switches; they only take away."""
    port_forwarding: bool = True
    takes_relayed: bool = False
    """Whether proxies that record may pass their users on to it."""
    passes_on: bool = False
    """An agent behind decides on its own as well, and sees to company (attack A30)."""
    own_folder: str = ""
    """The real path of where the service's own sockets are."""
    displays: range = range(0)
    """Numbers of X11 displays on this host; none: X11 is not forwarded."""

    def verdict(self, login: str, blob: bytes, source_addr: str, *, accompanied: bool = False) -> Verdict:
        """May the holder of this certificate log in? Pure. The refusal's text is for a proven holder;
        `accompanied` as for `decide`."""
        try:
            identity = verify_user_cert(
                blob,
                trust=self.cache.trust,
                login=login,
                source_addr=source_addr,
                now=self.now(),
                relayed_to=self.node().name if self.takes_relayed else "",
            )
        except DeniedError as problem:  # genuine, but not for this login or address: its name is true
            return Verdict(None, problem.message, unverified_facts(blob).key_id)
        except AccessError as problem:
            return Verdict(None, problem.message)
        decision = self.decide(identity, login, source_addr, accompanied=accompanied)
        if decision:
            return Verdict(identity)
        text = decision.text or self._denied(identity, login, source_addr)
        return Verdict(None, "; ".join(decision.reasons), identity.name, text)

    def decide(
        self,
        identity: Identity,
        login: str,
        source_addr: str,
        *,
        live: bool = False,
        accompanied: bool = False,
    ) -> Decision:
        """The one decision, with the roles and locks of this moment. `live`: about what goes on already;
        `accompanied`: nothing of it runs before the company is there that a role requires (attack A30)."""
        try:
            subject, node = Subject(identity, self.cache.roles_of(identity)), self.node()
        except DeniedError as problem:
            return Decision(False, (problem.message, *problem.reasons), text=inert(problem.message))
        environment = self.environment(source_addr, live=live, accompanied=accompanied)
        decision = decide(subject, SshLogin(node, login), environment)
        return replace(decision, text=inert(decision.text)) if decision.text else decision

    def recorded_elsewhere(self, identity: Identity) -> bool:
        """Whether the proxy that the user comes by keeps the record of their sessions."""
        return bool(identity.relayed_by) and self.cache.recording_config.spec.mode in PROXY_MODES

    def still_trusts(self, blob: bytes, identity: Identity, login: str | None, source_addr: str) -> bool:
        """Whether the certificate of what goes on is of an authority that is trusted now. Its time alone
        does not matter: that is what `disconnect_expired_cert` is for."""
        when = min(self.now(), identity.expires_at - 1.0)
        try:
            verify_user_cert(
                blob,
                trust=self.cache.trust,
                login=login,
                source_addr=source_addr,
                now=when,
                relayed_to=self.node().name if self.takes_relayed else "",
            )
        except AccessError:
            return False
        return True

    def _denied(self, identity: Identity, login: str, source_addr: str) -> str:
        """That it was denied; and why, for those who may know."""
        subject, node = Subject(identity, self.cache.roles_of(identity)), self.node()
        hostname = node.spec.hostname
        action = f"ssh {login}@{hostname}"
        story = why_not(subject, SshLogin(node, login), self.environment(source_addr), action)
        denied = f"access denied to {login} connecting to {hostname} on {identity.cluster}"
        return "\n".join((denied, *map(inert, story.splitlines())))

    def environment(self, source_addr: str, *, live: bool = False, accompanied: bool = False) -> Environment:
        """The circumstances of a question asked now. Raises DeniedError."""
        return Environment(
            now=self.now(),
            source_addr=source_addr,
            server_id=self.node().name,
            locks=self.cache.locks,
            auth_preference=self.cache.auth_preference,
            locks_stale_s=self.cache.stale_for_s,
            live=live,
            accompanied=accompanied or self.passes_on,
        )

    def stays(
        self, client: Client, *, authorities: bool, live: bool = True, accompanied: bool = False
    ) -> Decision:
        """Whether what goes on may go on (attack A14): locks, roles, times, labels and, with `authorities`,
        who may issue certificates may have changed. Without a text nothing more than that may be said."""
        identity = client.identity
        decision = self.decide(identity, client.login, client.source, live=live, accompanied=accompanied)
        if not decision:
            return decision
        if authorities and not self.still_trusts(client.blob, identity, client.login, client.source):
            return Decision(False, ("the certificate's authority is no longer trusted",))
        if self.has_expired(identity):
            return Decision(False, (EXPIRED,), text=EXPIRED)
        return decision

    def options(self, identity: Identity, login: str, source_addr: str) -> SessionOptions:
        """What the roles say about the session now; those that do not count now give nothing. Raises
        DeniedError."""
        return merge_options(
            self.cache.roles_of(identity),
            login,
            traits=identity.traits,
            networking=self.cache.networking,
            auth_preference=self.cache.auth_preference,
            in_force=serving(self.environment(source_addr)),
        )

    def confinement(self, identity: Identity, login: str, source_addr: str) -> Confinement:
        """What the roles say about what may run. Raises DeniedError, InputError."""
        return self._ask(confinement, identity, login, source_addr)

    def host_user(self, identity: Identity, source_addr: str) -> HostUser:
        """What the roles say about an account for the visitor. Raises DeniedError, InputError."""
        return host_user(
            self.cache.roles_of(identity),
            labels_of(self.node()),
            identity.traits,
            serving(self.environment(source_addr)),
        )

    def is_forced(self, identity: Identity, login: str, source_addr: str) -> bool:
        """Whether only one command may run, by the certificate or by a role: then nothing is forwarded, and
        no file copied (attack A13). Raises DeniedError, InputError."""
        return bool(identity.force_command or self.confinement(identity, login, source_addr).forced)

    def has_expired(self, identity: Identity) -> bool:
        """Whether a connection is over because its certificate is, which it outlives where neither roles nor
        cluster mind. Raises DeniedError."""
        # A certificate for one session lives for a minute: what counts is the one it was made from.
        if self.now() < (identity.previous_expires_at or identity.expires_at):
            return False
        roles = self.cache.roles_of(identity)
        return merge_options(roles, auth_preference=self.cache.auth_preference).disconnect_expired_cert

    def may_copy(self, options: SessionOptions) -> bool:
        return self.file_copy and options.file_copy

    def forwarding(
        self, identity: Identity, login: str, source_addr: str, *, live: bool = False
    ) -> ForwardingRights:
        """What may be forwarded now: the host, the roles and the certificate must all allow it (attack A18).
        Who may run one command only forwards nothing (attack A13)."""
        decision = self.decide(identity, login, source_addr, live=live)
        if not decision:
            return ForwardingRights(why="; ".join(decision.reasons), text=decision.text)
        try:
            forced = self.is_forced(identity, login, source_addr)
            to = self._ask(destinations, identity, login, source_addr)
        except InputError as problem:
            return ForwardingRights(why=problem.message)
        if forced:
            return ForwardingRights(why="only one command may run")
        options = self.options(identity, login, source_addr)
        ports = self.port_forwarding and "permit-port-forwarding" in identity.extensions
        return ForwardingRights(
            local=ports and options.port_forward_local,
            remote=ports and options.port_forward_remote,
            agent=options.forward_agent and "permit-agent-forwarding" in identity.extensions,
            displays=self.displays
            if options.x11 and "permit-X11-forwarding" in identity.extensions
            else range(0),
            to=to,
        )

    def _ask(self, question: _Question[A], identity: Identity, login: str, source_addr: str) -> A:
        environment = self.environment(source_addr)
        return question(
            self.cache.roles_of(identity),
            labels_of(self.node()),
            login,
            identity.traits,
            in_force=serving(environment),
            refusing=refusing(environment),
        )
