"""What has to be done so that the cluster has what the documents say: one step for each resource, every one
of them checked by the Auth Service in a dry run before the first is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pkgs.clients.tctl.applying.files import refuse
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import AccessError, InputError, NotFoundError, UnavailableError
from pkgs.common.output.progress import Progress
from pkgs.common.resources.defaults import ORIGIN_LABEL
from pkgs.common.resources.documents.owned import adopting, located, with_revision
from pkgs.common.resources.documents.places import Placed
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import IN_ORDER, OWN, PRESENCE, SINGLETONS, Ref
from pkgs.common.resources.secrets import shown_name
from pkgs.common.rpc.calls import BlockingClient

Action = Literal["created", "updated", "unchanged", "pruned"]
NEVER_PRUNED = OWN | PRESENCE | frozenset(SINGLETONS) | {"access_request"}
_TYPE_LABEL = "teleport.internal/resource-type"
_RANK = {kind: rank for rank, kind in enumerate(IN_ORDER)}


@dataclass(frozen=True, slots=True)
class Step:
    """One resource and what becomes of it."""

    action: Action
    resource: Resource
    """What is sent; of a pruned one, what there is."""
    before: Resource | None
    after: Resource | None
    """As it would be stored, without secrets; None for what is pruned."""
    where: str = ""
    """File and line; empty for what is in no file."""
    secrets: tuple[str, ...] = ()
    """Paths inside spec whose secret changes."""
    document: Placed | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.resource.kind, self.resource.sub_kind, self.resource.name)

    @property
    def label(self) -> str:
        """How a person finds it again; the name of a join token is masked."""
        name = shown_name(self.resource)
        middle = f"/{self.resource.sub_kind}" if self.resource.sub_kind else ""
        return f"{self.resource.kind}{middle}/{name}"


@dataclass(slots=True)
class Plan:
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which resources go when no document says them."""

    labels: dict[str, str]
    kinds: tuple[str, ...] = ()
    """Empty: the kinds that the documents are of."""


def make_plan(client: BlockingClient, documents: Sequence[Placed], pruning: Pruning | None) -> Plan:
    """Raises what is wrong with all of the steps as one error; nothing has been changed then."""
    plan = Plan()
    errors: list[AccessError] = []
    ordered = sorted(documents, key=lambda document: _RANK[document.resource.kind])
    with Progress("Comparing") as progress:
        for count, document in enumerate(ordered, 1):
            progress.update(f"{count} of {len(ordered)}")
            try:
                plan.steps.append(_compare(client, document, plan))
            except UnavailableError:
                raise
            except AccessError as error:
                errors.append(document.explained(error))
        if pruning is not None:
            _plan_pruning(client, plan, pruning, documents, errors)
    refuse(errors)
    return plan


def _compare(client: BlockingClient, document: Placed, plan: Plan) -> Step:
    wanted = located(document.resource)
    request = GetResource(kind=wanted.kind, name=wanted.name, sub_kind=wanted.sub_kind)
    before: Resource | None
    try:
        before = client.call(request).resource
    except NotFoundError:
        before = None
    if before is None:
        assume = _named_in(wanted, plan)
        stored = client.call(PutResource(resource=wanted, mode="create", dry_run=True, assume=assume))
    else:
        # A revision that a document carries is a condition of its author; else it is the one just read.
        revision = wanted.metadata.revision or before.metadata.revision
        wanted = with_revision(adopting(wanted, before), revision)
        assume = _named_in(wanted, plan)
        stored = client.call(PutResource(resource=wanted, mode="update", dry_run=True, assume=assume))
    plan.warnings += [f"{document.where}: {text}" for text in stored.warnings]
    return Step(
        stored.change, wanted, before, stored.resource, document.where, tuple(stored.secrets), document
    )


def _named_in(resource: Resource, plan: Plan) -> list[Ref]:
    """Of what the plan creates, that which this resource may refer to."""
    text = msgspec.json.encode(resource)
    return [
        step.ref
        for step in plan.steps
        if step.action == "created" and msgspec.json.encode(step.resource.name)[1:-1] in text
    ]


def _plan_pruning(
    client: BlockingClient,
    plan: Plan,
    pruning: Pruning,
    documents: Sequence[Placed],
    errors: list[AccessError],
) -> None:
    in_files = {located(document.resource).kind for document in documents}
    kinds = pruning.kinds or tuple(in_files - NEVER_PRUNED)
    kept = {ref_of(located(document.resource)) for document in documents}
    resources = [document.resource for document in documents]
    unlabelled = sum(r.kind not in NEVER_PRUNED and not _fits(r, pruning.labels) for r in resources)
    if unlabelled:
        plan.warnings.append(
            f"{unlabelled} of the documents lack the labels of the selector:"
            " taken out of the files, they will not be pruned"
        )
    touched = [step.ref for step in plan.steps if step.action == "updated"]
    # What refers to others goes first.
    for kind in sorted(kinds, key=_RANK.__getitem__, reverse=True):
        for found in fetch_all(client, kind, labels=pruning.labels):
            if ref_of(found) in kept or not _fits(found, pruning.labels):
                continue
            if _is_clusters(found):
                plan.warnings.append(f"{kind}/{shown_name(found)} is a preset or the cluster's own: kept")
                continue
            step = Step("pruned", found, found, None)
            try:
                client.call(_deletion(step, dry_run=True, assume=touched))
            except UnavailableError:
                raise
            except AccessError as error:
                errors.append(type(error)(f"prune {step.label}: {error.message}", hint=error.hint))
                continue
            plan.steps.append(step)
            touched.append(step.ref)


def ref_of(resource: Resource) -> Ref:
    return Ref(resource.kind, resource.sub_kind, resource.name)


def _fits(resource: Resource, labels: dict[str, str]) -> bool:
    """By letter and static labels alone, whatever a listing takes for a match."""
    return all(resource.metadata.labels.get(key) == value for key, value in labels.items())


def _is_clusters(resource: Resource) -> bool:
    labels = resource.metadata.labels
    return _TYPE_LABEL in labels or labels.get(ORIGIN_LABEL) in ("config-file", "defaults")


def _deletion(step: Step, *, dry_run: bool = False, assume: Sequence[Ref] = ()) -> DeleteResource:
    kind, sub_kind, name = step.ref
    return DeleteResource(
        kind=kind,
        name=name,
        sub_kind=sub_kind,
        revision=step.resource.metadata.revision,
        prune=True,
        dry_run=dry_run,
        assume=list(assume),
    )


def carry_out(client: BlockingClient, step: Step) -> None:
    """Do one step, if the resource is still what was compared. Raises what stopped it, with its place."""
    try:
        if step.action == "pruned":
            client.call(_deletion(step))
        elif step.action == "created":
            client.call(PutResource(resource=step.resource, mode="create"))
        elif step.action == "updated":
            client.call(PutResource(resource=step.resource, mode="update"))
    except UnavailableError as error:
        raise UnavailableError(
            f"{step.label}: {error.message}", hint="whether it was done is not known; apply again"
        ) from error
    except AccessError as error:
        if step.document is not None:
            raise step.document.explained(error) from error
        raise InputError(f"{step.label}: {error.message}", hint=error.hint) from error
