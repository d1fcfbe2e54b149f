"""Servers: seeing one, and logging in over SSH."""

from __future__ import annotations

from pkgs.common.access.protocols.grants import Demand, Principal, Protocol
from pkgs.common.access.types import Decision, SshLogin
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.names import valid_login

LOGINS = Principal("logins", valid=valid_login)
PROTOCOL = Protocol("server", "node_labels", (LOGINS,))
BAD_LOGIN = Decision(False, ("login is not a valid OS user name",))
NOT_IN_CERT = Decision(False, ("login is not among the certificate's principals",))


def barred(identity: Identity, target: SshLogin) -> Decision | None:
    """What refuses this login before any role is asked; None: nothing."""
    if not valid_login(target.login):  # attack A17
        return BAD_LOGIN
    if target.login not in identity.logins:  # attack A05
        return NOT_IN_CERT
    return None


def demands(target: SshLogin) -> tuple[Demand, ...]:
    return ((0, target.login),)
