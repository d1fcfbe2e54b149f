"""Who may use a database, and as whom: every question, answered from the cache.

Certificate -> identity -> current roles -> locks -> decision, always in this order and always in this file;
asked when a session begins, and again and again while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pkgs.common.access.dbobjects import ImportRules
from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import why_not
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.access.options.merge import serving
from pkgs.common.access.types import ConnectDatabase, Decision, Environment, Subject
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.x509 import verify_peer
from pkgs.common.resources.kinds import Database, DbObjectImportRule

NO_LONGER = "access is no longer allowed"
"""What a user reads whose session ends, where nothing more may be said."""
EXPIRED = "the certificate has expired"


@dataclass(frozen=True, slots=True)
class Gate:
    cache: ClusterCache
    host_id: str
    now: Callable[[], float]

    def verify(self, der: bytes) -> Identity:
        """The holder of a certificate; from where they may use it is for `decide`. Raises TrustError."""
        return verify_peer(der, trust=self.cache.trust, now=self.now())

    def decide(
        self, identity: Identity, target: ConnectDatabase, source_addr: str, *, live: bool = False
    ) -> Decision:
        """The one decision, with the roles and locks of this moment. `live`: about what goes on already."""
        try:
            subject = Subject(identity, self.cache.roles_of(identity))
        except DeniedError as problem:
            return Decision(False, (problem.message, *problem.reasons), text=inert(problem.message))
        decision = decide(subject, target, self._environment(source_addr, live=live))
        return replace(decision, text=inert(decision.text)) if decision.text else decision

    def denied(
        self, identity: Identity, target: ConnectDatabase, source_addr: str, needs: tuple[str, ...] = ()
    ) -> str:
        """That it was denied; and why, for those who may know. In the same words for a database that is not
        there. Who lacks nothing but what a decision `needs` is told so."""
        text = f"access to database {inert(target.db.name)} denied"
        if "mfa" in needs:
            text += ": a one-time code is needed; 'tsh db connect' and 'tsh proxy db --tunnel' ask for it"
        try:
            subject = Subject(identity, self.cache.roles_of(identity))
        except DeniedError:
            return text
        action = f"db {target.user}@{target.db.name}"
        story = why_not(subject, target, self._environment(source_addr), action)
        return "\n".join((text, *map(inert, story.splitlines())))

    def stays(
        self, identity: Identity, der: bytes, target: ConnectDatabase, source_addr: str, *, authorities: bool
    ) -> Decision:
        """Whether what goes on may go on (attack A14). Without a text nothing more than that may be said."""
        decision = self.decide(identity, target, source_addr, live=True)
        if not decision:
            return decision
        if authorities and not self._still_trusts(identity, der):
            return Decision(False, ("the certificate's authority is no longer trusted",))
        if self._has_expired(identity):
            return Decision(False, (EXPIRED,), text=EXPIRED)
        return decision

    def options(self, identity: Identity, source_addr: str) -> SessionOptions:
        """What the roles say about the session now. Raises DeniedError."""
        return merge_options(
            self.cache.roles_of(identity),
            traits=identity.traits,
            networking=self.cache.networking,
            auth_preference=self.cache.auth_preference,
            in_force=serving(self._environment(source_addr)),
        )

    def import_rules(self, database: Database, inside: str) -> ImportRules:
        """How the objects of one database inside the server are labelled. Raises InputError."""
        found = self.cache.resources("db_object_import_rule")
        rules = [rule for rule in found if isinstance(rule, DbObjectImportRule)]
        return ImportRules(rules, database, inside)

    def _environment(self, source_addr: str, *, live: bool = False) -> Environment:
        cache = self.cache
        return Environment(
            now=self.now(),
            source_addr=source_addr,
            server_id=self.host_id,
            locks=cache.locks,
            auth_preference=cache.auth_preference,
            locks_stale_s=cache.stale_for_s,
            live=live,
        )

    def _still_trusts(self, identity: Identity, der: bytes) -> bool:
        try:
            verify_peer(der, trust=self.cache.trust, now=min(self.now(), identity.expires_at - 1.0))
        except AccessError:
            return False
        return True

    def _has_expired(self, identity: Identity) -> bool:
        # A certificate for one session lives for a minute: what counts is the one it was made from.
        if self.now() < (identity.previous_expires_at or identity.expires_at):
            return False
        roles = self.cache.roles_of(identity)
        return merge_options(roles, auth_preference=self.cache.auth_preference).disconnect_expired_cert
