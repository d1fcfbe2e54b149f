"""Who may log in to a server without an agent, and do what there: every question, answered from the cache.

The same questions, put to the same one decision, as an agent asks for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import why_not
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.access.options.commands import Confinement, confinement
from pkgs.common.access.options.forwarding import ANYWHERE, Destinations, destinations
from pkgs.common.access.options.merge import refusing, serving
from pkgs.common.access.types import Decision, Environment, SshLogin, Subject
from pkgs.common.errors import AccessError, DeniedError, InputError
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.sshcert import unverified_facts, verify_user_cert
from pkgs.common.resources.kinds import Node
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.ssh.process.monitor import Verdict


@dataclass(frozen=True, slots=True)
class Gate:
    """Answers for one server, named by the id it had when the user asked for it."""

    cache: ClusterCache
    node_id: str
    host_id: str
    """The proxy's own."""
    now: Callable[[], float]
    has_agent: bool = False
    """The server decides on its own as well, sees to company, and knows which addresses names stand for."""

    def node(self) -> Node:
        """The server as it is now. Raises DeniedError when it is gone."""
        node = self.cache.nodes.get(self.node_id)
        if node is None or (node.sub_kind == OPENSSH) == self.has_agent:
            raise DeniedError("the server is not registered any more")
        return node

    def verdict(self, login: str, blob: bytes, source_addr: str) -> Verdict:
        """May the holder of this certificate log in? Pure. The refusal's text is for a proven holder."""
        try:
            identity = verify_user_cert(
                blob, trust=self.cache.trust, login=login, source_addr=source_addr, now=self.now()
            )
        except DeniedError as problem:  # genuine, but not for this login or address: its name is true
            return Verdict(None, problem.message, unverified_facts(blob).key_id)
        except AccessError as problem:
            return Verdict(None, problem.message)
        decision = self.decide(identity, login, source_addr)
        if decision:
            return Verdict(identity)
        text = f"access denied to {login}"
        if story := self._story(identity, login, source_addr):
            text += f"\n{story}"
        return Verdict(None, "; ".join(decision.reasons), identity.name, decision.text or text)

    def decide(self, identity: Identity, login: str, source_addr: str, *, live: bool = False) -> Decision:
        """The one decision, with the roles and locks of this moment. Whoever needs company gets no: there is
        no joining of sessions here (attack A30)."""
        try:
            subject, node = Subject(identity, self.cache.roles_of(identity)), self.node()
        except DeniedError as problem:
            return Decision(False, (problem.message, *problem.reasons), text=inert(problem.message))
        decision = decide(subject, SshLogin(node, login), self._environment(source_addr, live=live))
        return replace(decision, text=inert(decision.text)) if decision.text else decision

    def still_trusts(self, blob: bytes, identity: Identity, login: str, source_addr: str) -> bool:
        """Whether the certificate of what goes on is of an authority that is trusted now."""
        when = min(self.now(), identity.expires_at - 1.0)
        try:
            verify_user_cert(blob, trust=self.cache.trust, login=login, source_addr=source_addr, now=when)
        except AccessError:
            return False
        return True

    def options(
        self, identity: Identity, login: str, source_addr: str, *, live: bool = False
    ) -> SessionOptions:
        """What the roles say about the session now. Raises DeniedError."""
        return merge_options(
            self.cache.roles_of(identity),
            login,
            traits=identity.traits,
            networking=self.cache.networking,
            auth_preference=self.cache.auth_preference,
            in_force=serving(self._environment(source_addr, live=live)),
        )

    def confinement(self, identity: Identity, login: str, source_addr: str) -> Confinement:
        """What the roles say about what may run. Raises DeniedError, InputError."""
        environment = self._environment(source_addr)
        return confinement(
            self.cache.roles_of(identity),
            labels_of(self.node()),
            login,
            identity.traits,
            in_force=serving(environment),
            refusing=refusing(environment),
        )

    def ends_expired(self, identity: Identity) -> bool:
        """Whether roles or cluster let no connection outlive its certificate. Raises DeniedError."""
        roles = self.cache.roles_of(identity)
        return merge_options(roles, auth_preference=self.cache.auth_preference).disconnect_expired_cert

    def may_forward(self, identity: Identity, login: str, source_addr: str, *, live: bool = False) -> bool:
        """Local forwarding: roles and certificate must both allow it (attack A18). The server's own sshd
        looks names up, so where a role lists or denies destinations, none can be checked: then no."""
        try:
            return (
                self.options(identity, login, source_addr, live=live).port_forward_local
                and "permit-port-forwarding" in identity.extensions
                and not identity.force_command
                and not self.confinement(identity, login, source_addr).forced
                and (self.has_agent or self._destinations(identity, login, source_addr) == ANYWHERE)
            )
        except (DeniedError, InputError):
            return False

    def _destinations(self, identity: Identity, login: str, source_addr: str) -> Destinations:
        environment = self._environment(source_addr)
        return destinations(
            self.cache.roles_of(identity),
            labels_of(self.node()),
            login,
            identity.traits,
            in_force=serving(environment),
            refusing=refusing(environment),
        )

    def _story(self, identity: Identity, login: str, source_addr: str) -> str:
        """Why it was denied, for those who may know."""
        try:
            subject, node = Subject(identity, self.cache.roles_of(identity)), self.node()
        except DeniedError:
            return ""
        action = f"ssh {login}@{node.spec.hostname}"
        story = why_not(subject, SshLogin(node, login), self._environment(source_addr), action)
        return "\n".join(map(inert, story.splitlines()))

    def _environment(self, source_addr: str, *, live: bool = False) -> Environment:
        return Environment(
            now=self.now(),
            source_addr=source_addr,
            server_id=self.node_id,
            locks=self.cache.locks,
            auth_preference=self.cache.auth_preference,
            locks_stale_s=self.cache.stale_for_s,
            live=live,
            accompanied=self.has_agent,
        )
