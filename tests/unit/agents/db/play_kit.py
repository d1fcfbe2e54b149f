"""Gives bytes to a conversation, and gathers what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from pkgs.agents.db.engine import Conversation, Fact, Step

C = TypeVar("C", bound=Conversation)


@dataclass
class Played(Generic[C]):
    conversation: C
    to_server: bytes = b""
    to_client: bytes = b""
    facts: list[Fact] = field(default_factory=list)
    over: bool = False

    def client(self, *pieces: bytes) -> Self:
        """The client says this."""
        for piece in pieces:
            step = self.conversation.from_client(memoryview(piece))
            self.to_server += step.onward
            self.to_client += step.back
            self._note(step)
        return self

    def server(self, *pieces: bytes) -> Self:
        for piece in pieces:
            step = self.conversation.from_server(memoryview(piece))
            self.to_client += step.onward
            self.to_server += step.back
            self._note(step)
        return self

    def _note(self, step: Step) -> None:
        self.facts += step.facts
        self.over = self.over or step.over
