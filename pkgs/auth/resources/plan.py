"""A change that has been checked and not yet been written: what it is, and whether it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pkgs.auth.state.bootstrap import CONFIG_FILE, ORIGIN
from pkgs.common.api.resources import Stored
from pkgs.common.errors import AlreadyExistsError, ConflictError, InputError, NotFoundError
from pkgs.common.resources.documents.owned import comparable
from pkgs.common.resources.documents.warnings import warnings_of
from pkgs.common.resources.kinds import Resource, User
from pkgs.common.resources.registry import OWN, PRESENCE, SINGLETONS
from pkgs.common.resources.secrets import changed_secrets, without_secrets
from pkgs.common.rpc.calls import Caller

TYPE_LABEL = "teleport.internal/resource-type"
"""Marks what every cluster begins with."""


@dataclass(frozen=True, slots=True)
class Plan:
    resource: Resource
    """As it will be stored."""
    before: Resource | None
    brought: tuple[str, ...]
    """Paths of the secrets that the document itself holds."""

    @property
    def unlocks(self) -> bool:
        """Whether an administrator lifts the lock of a user."""
        return (
            isinstance(self.before, User)
            and isinstance(self.resource, User)
            and self.before.spec.status.is_locked
            and not self.resource.spec.status.is_locked
        )

    def answer(self, caller: Caller) -> Stored:
        """What a dry run tells. Whether a secret is the same only who may read it learns."""
        changed = changed_secrets(self.before, self.resource) if caller.admin else list(self.brought)
        shown = without_secrets(self.resource)
        change: Literal["created", "updated", "unchanged"] = "updated"
        if self.before is None:
            change = "created"
        elif not changed and comparable(shown) == comparable(without_secrets(self.before)):
            change = "unchanged"
        return Stored(shown, change=change, secrets=changed, warnings=warnings_of(self.resource))


def check_mode(mode: str, resource: Resource, before: Resource | None) -> None:
    """Whether there is something to create, or something that may be overwritten."""
    kind, name = resource.kind, resource.name
    if mode == "create" and before is not None:
        raise AlreadyExistsError(
            f'{kind} "{name}" already exists', hint="use -f or --force flag to overwrite"
        )
    if mode == "update" and before is None:
        raise NotFoundError(f'{kind} "{name}" not found')
    if mode == "update" and not resource.metadata.revision.isdecimal():
        raise InputError(
            f'{kind} "{name}": metadata.revision is not one of ours',
            hint="fetch the resource, change it, and send it back with its revision",
        )
    if before is not None:
        check_revision(before, resource.metadata.revision)


def check_revision(before: Resource, revision: str) -> None:
    """Whether what there is is still what was read; nobody's change is overwritten unseen."""
    if revision and revision != before.metadata.revision:
        raise ConflictError(
            f'{before.kind} "{before.name}" was changed by somebody else in the meantime:'
            f" revision {revision[:40]} was read, now it is {before.metadata.revision}",
            hint="fetch it again and repeat the change, or leave out metadata.revision to overwrite it",
        )


def check_prunable(resource: Resource, caller: Caller) -> None:
    """Whether a cleaning up may take a resource whose labels fit: never what the cluster itself made or
    needs, and never the one who cleans up."""
    kind = resource.kind
    labels = resource.metadata.labels
    if kind in OWN | PRESENCE or kind in SINGLETONS:
        raise InputError(f'{kind} "{resource.name}" is not pruned: each cluster has its own')
    if labels.get(TYPE_LABEL) or labels.get(ORIGIN) in (CONFIG_FILE, "defaults"):
        raise InputError(
            f'{kind} "{resource.name}" is not pruned: it is a preset or comes from the configuration file'
        )
    identity = caller.identity
    if isinstance(resource, User) and identity is not None and identity.name == resource.name:
        raise InputError(
            f'user "{resource.name}" is not pruned: that is you',
            hint="put the user into the directory, or take the label away",
        )
