"""Coming to join a session: what is asked of the one who comes, beside what `joining` asks of the session.

`may_knock` is for whoever only passes the visitor on, `may_enter` for the server that runs the session.
Both ask everything that `decide` asks of a login but the grant of a login: no role need let a visitor run
anything of their own on the server. Where a second factor is demanded, moderators besides have to show again
and again that they are there (`must_prove`); those who do not are in the session, and count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from pkgs.common.access.decide import barred
from pkgs.common.access.joining import JOIN_LOGIN, Mode, Participant, Session, may_join
from pkgs.common.access.options.merge import serving
from pkgs.common.access.protocols.grants import requires_mfa
from pkgs.common.access.types import Decision, Environment, SshLogin, Subject
from pkgs.common.resources.kinds import AuthPreference, Node
from pkgs.common.resources.role import Role

_WELCOME = Decision(True, ("the server that runs a session decides who may join it",))
_TASKED = Decision(False, ("a certificate for one command joins no session",))
_NO_TERMINAL = Decision(False, ("the certificate permits no terminal",))


def may_knock(subject: Subject, node: Node, env: Environment) -> Decision:
    """Expiry, source address, locks, the restriction to resources, and what certificates are for."""
    refusal = barred(subject, SshLogin(node, JOIN_LOGIN), env)
    if refusal is not None:
        return refusal
    if subject.identity.force_command:
        return _TASKED
    return _WELCOME


def may_enter(
    session: Session,
    subject: Subject,
    mode: Mode,
    node: Node,
    env: Environment,
) -> Decision:
    """Whether somebody may be in this session in their mode, now (attack A30)."""
    knocking = may_knock(subject, node, env)
    if not knocking:
        return knocking
    if "permit-pty" not in subject.identity.extensions:
        return _NO_TERMINAL
    who = Participant(subject.identity, subject.roles, mode)
    return may_join(session, who, auth_preference=env.auth_preference, in_force=serving(env))


def must_prove(preference: AuthPreference | None, roles: Iterable[Role]) -> bool:
    """Whether a moderator must show that they are there, by the roles of theirs and of the owner's."""
    return (preference is not None and requires_mfa(preference.spec.require_session_mfa)) or any(
        requires_mfa(role.spec.options.require_session_mfa) for role in roles
    )
