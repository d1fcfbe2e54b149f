"""One visit, and what the audit log and the cluster are told of those in a session. Data and words only."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from pkgs.agents.ssh.together import limits
from pkgs.agents.ssh.together.viewer import Viewer
from pkgs.common.access.joining import Mode
from pkgs.common.api.sessions import Presence, SessionTracker, State
from pkgs.common.events.types import FieldValue
from pkgs.common.output.sanitize import inert
from pkgs.common.ssh.sessions.log import Parties
from pkgs.common.ssh.sessions.messages import OpenSession

Standing = Literal["free", "unseen", "here", "asked", "missed"]
"""Whether they have to show that they are there, and have (`presence`)."""


@dataclass(eq=False, slots=True)
class Visit:
    """Somebody in a session of somebody else, or in another terminal of their own."""

    parties: Parties
    source: str
    mode: Mode
    viewer: Viewer
    is_here: Callable[[], bool]
    """Whether their client is connected at the moment."""
    size: tuple[int, int] = (0, 0)
    """Columns and rows of their terminal; 0: they have none."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    last_active: float = 0.0
    standing: Standing = "free"
    """As they were told last."""

    @property
    def name(self) -> str:
        return inert(self.parties.identity.name)


def event_fields(parties: Parties, mode: Mode) -> dict[str, FieldValue]:
    """Fields of an event about a visitor, in the place of the owner's."""
    owners = ("impersonator", "bot_name", "bot_instance_id", "access_requests")
    return {
        **dict.fromkeys(owners),
        **parties.fields(),
        "with_mfa": parties.identity.mfa_device or None,
        "participant_mode": mode,
    }


def tracker_of(
    session_id: str,
    state: State,
    created: float,
    owner: Parties,
    request: OpenSession,
    visits: Iterable[Visit],
    needs: tuple[str, ...],
    *,
    detached: bool = False,
) -> SessionTracker:
    """What the cluster may know of a session."""
    node, identity = owner.node(), owner.identity
    everybody = [
        Presence(
            id=session_id,
            user=identity.name,
            cluster=identity.cluster,
            mode="owner",
            last_active=created,
        )
    ][: not detached]
    for visit in visits:
        who = visit.parties.identity
        everybody.append(
            Presence(
                id=visit.id,
                user=who.name,
                cluster=who.cluster,
                mode=visit.mode,
                last_active=visit.last_active,
            )
        )
    return SessionTracker(
        session_id=session_id,
        state=state,
        created=created,
        host_user=identity.name,
        owner_cluster=identity.cluster,
        host_roles=list(identity.roles),
        login=owner.login,
        cluster_name=owner.cluster_name,
        target_hostname=node.spec.hostname,
        target_address=node.spec.addr,
        reason=request.reason[: limits.MAX_REASON],
        invited=request.invited[: limits.MAX_INVITED],
        initial_command=request.command[: limits.MAX_REASON],
        needs=[need[: limits.MAX_REASON] for need in needs[: limits.MAX_SHOWN_DEMANDS]],
        participants=everybody,
        detached=detached,
    )
