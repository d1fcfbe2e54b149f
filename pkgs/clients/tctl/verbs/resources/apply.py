"""`tctl apply`."""

from __future__ import annotations

import sys
from typing import Any

from pkgs.clients.tctl import passphrase
from pkgs.clients.tctl.applying.diffs import unified
from pkgs.clients.tctl.applying.files import read
from pkgs.clients.tctl.applying.plan import NEVER_PRUNED, Plan, Pruning, Step, carry_out, make_plan
from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import TEXT_OR_JSON, commas
from pkgs.clients.tctl.verbs.resources.create import BELONGS_TO_CLUSTER, check, warn
from pkgs.clients.tsh.servers.nodes import parse_labels
from pkgs.common.errors import AccessError, InputError
from pkgs.common.output import jsonout
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK, fail
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.registry import canonical_kind
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Make the cluster have what the documents of a file or folder say. Reads every *.yaml, *.yml and *.json"
    " below the folder, checks them all at the Auth Service before anything is written, and then writes what"
    " differs, in the order in which resources refer to each other. Only what is still as it was compared is"
    " overwritten. Exit status: 0 done, 1 an error, and with --diff 2 when something would change.",
    Flag("filename", "File or folder to apply (required)", short="f", metavar="PATH"),
    Flag("recursive", "Accepted for compatibility: folders are always read to the bottom", short="R",
         is_bool=True),
    Flag("diff", "Change nothing; show what would change, and exit 2 if anything would", is_bool=True),
    Flag("dry-run", "Change nothing; check everything at the Auth Service and say what would be done",
         is_bool=True),
    Flag("prune", "Delete what has the labels of --selector and is in no document any more", is_bool=True),
    Flag("selector", "Labels of what may be pruned (required by --prune): key=value,...", metavar="LABELS"),
    Flag("prune-kinds", "Kinds that may be pruned; default: those that the documents are of",
         metavar="KIND,..."),
    passphrase.FLAG,
    TEXT_OR_JSON,
    usage_status=EXIT_FAILED,
)  # fmt: skip
DIFFERENT = 2
"""Exit status of --diff when something would change; so that errors of every sort are 1 here."""


def run(args: Parsed) -> int:
    """Read, compare, carry out."""
    try:
        return _run(args)
    except AccessError as error:
        fail(str(error))
        return EXIT_FAILED


def _run(args: Parsed) -> int:
    path = args.text("filename")
    if not path:
        raise InputError("-f is required", hint="tctl apply -f DIR")
    pruning = _pruning(args)
    asked: list[str] = []

    def open_sealed(text: str, source: str) -> str:
        return passphrase.opened(text, args, source, asked)

    documents = read(path, open_sealed, check)
    for document in documents:
        if document.resource.kind in BELONGS_TO_CLUSTER:
            raise document.explained(
                InputError(f"{document.resource.kind}: is each cluster's own and cannot be applied")
            )
    with connect(args) as client:
        plan = make_plan(client, documents, pruning)
        warn(plan.warnings)
        if args.on("diff"):
            _show(args, plan, diffs=True)
            return DIFFERENT if plan.changes else EXIT_OK
        if args.on("dry-run"):
            _show(args, plan, diffs=False)
            return EXIT_OK
        return _carry_out(client, args, plan)


def _pruning(args: Parsed) -> Pruning | None:
    if not args.on("prune"):
        if args.text("selector") or args.text("prune-kinds"):
            raise InputError("--selector and --prune-kinds are for --prune", hint="add --prune")
        return None
    labels = parse_labels(args.text("selector"))
    if not labels:
        raise InputError("--prune needs --selector", hint="for example --selector=managed-by=git")
    if "*" in labels or "*" in labels.values():
        raise InputError("--selector: labels are named in full, '*' is not allowed")
    kinds = tuple(map(canonical_kind, commas(args.text("prune-kinds"))))
    for kind in kinds:
        if kind in NEVER_PRUNED:
            raise InputError(f"--prune-kinds: {kind} is never pruned")
    return Pruning(labels, kinds)


def _show(args: Parsed, plan: Plan, *, diffs: bool) -> None:
    if args.text("format") == "json":
        sys.stdout.write(jsonout.dumps(_document(plan, set(), dry_run=True, diffs=diffs)))
        return
    for step in plan.steps:
        if not diffs:
            _say(step, " (dry run)")
        elif step.action != "unchanged":
            sys.stdout.write(unified(step))
    if not diffs:
        sys.stdout.write(f"{_summary(plan.steps)}; nothing was changed\n")


def _carry_out(client: BlockingClient, args: Parsed, plan: Plan) -> int:
    text = args.text("format") == "text"
    done: list[Step] = []
    failure: AccessError | None = None
    for step in plan.steps:
        try:
            carry_out(client, step)
        except AccessError as error:
            failure = error
            break
        done.append(step)
        if text:
            _say(step, "")
    if text:
        sys.stdout.write(f"{_summary(done)}\n")
        left = [step for step in plan.steps[len(done) :] if step.action != "unchanged"]
        if failure is not None:
            sys.stdout.writelines(f"{inert(step.label)} not {step.action}\n" for step in left)
    else:
        finished = {id(step) for step in done}
        sys.stdout.write(jsonout.dumps(_document(plan, finished, dry_run=False, diffs=False)))
    if failure is None:
        return EXIT_OK
    sys.stdout.flush()
    fail(f"stopped after {len(done)} of {len(plan.steps)} resources: {failure}")
    return EXIT_FAILED


def _say(step: Step, suffix: str) -> None:
    sys.stdout.write(f"{inert(step.label)} {step.action}{suffix}\n")


def _summary(steps: list[Step]) -> str:
    actions = [step.action for step in steps]
    return ", ".join(f"{actions.count(a)} {a}" for a in ("created", "updated", "unchanged", "pruned"))


def _document(plan: Plan, finished: set[int], *, dry_run: bool, diffs: bool) -> dict[str, Any]:
    rows = []
    for step in plan.steps:
        row: dict[str, Any] = {
            "kind": step.resource.kind,
            "sub_kind": step.resource.sub_kind,
            "name": step.label.rpartition("/")[2],
            "action": step.action,
            "done": id(step) in finished and step.action != "unchanged",
            "source": step.where,
        }
        if diffs:
            row["diff"] = unified(step)
        rows.append(row)
    return {"dry_run": dry_run, "resources": rows}
