"""Whether a process can do its job, told per component and merged into one answer.

    starting --ok--> ok --degraded--> degraded --recovering--> recovering --ok--> ok

Any degraded component makes the process degraded; else any recovering one; else any starting one; it is ok
only when every component is ok.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a component, or the whole process, says of itself."""

    OK = "ok"
    RECOVERING = "recovering"
    STARTING = "starting"
    DEGRADED = "degraded"


TEXTS = {
    State.OK: "ok",
    State.RECOVERING: "teleport is recovering from a degraded state, check logs for details",
    State.STARTING: "teleport is starting and hasn't joined the cluster yet",
    State.DEGRADED: "teleport is in a degraded state, check logs for details",
}

HTTP_STATUS = {State.OK: 200, State.RECOVERING: 400, State.STARTING: 400, State.DEGRADED: 503}

_MERGE_ORDER = (State.DEGRADED, State.RECOVERING, State.STARTING)


class Component:
    """One part of a process that can be ready or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.STARTING
        self.reason = ""

    def ok(self) -> None:
        """It does its job."""
        self._become(State.OK, "")

    def degraded(self, reason: str) -> None:
        """It can't do its job now; `reason` is for the administrator."""
        self._become(State.DEGRADED, reason)

    def recovering(self, reason: str = "") -> None:
        """It was degraded and the cause is gone; not yet trusted."""
        self._become(State.RECOVERING, reason)

    def starting(self) -> None:
        """It has not been ready yet."""
        self._become(State.STARTING, "")

    def _become(self, state: State, reason: str) -> None:
        self.state = state
        self.reason = reason


class Readiness:
    """The components of one process and their merged state."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}

    def component(self, name: str) -> Component:
        """The component of this name; made, as starting, when it is new."""
        return self._components.setdefault(name, Component(name))

    @property
    def components(self) -> tuple[Component, ...]:
        """All of them, for the diagnostics dump."""
        return tuple(self._components.values())

    @property
    def state(self) -> State:
        """Merged; a process without components is starting."""
        states = {component.state for component in self._components.values()} or {State.STARTING}
        return next((state for state in _MERGE_ORDER if state in states), State.OK)
