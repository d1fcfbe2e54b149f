"""`tctl create`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pkgs.clients.tctl import passphrase
from pkgs.clients.tctl.connect import connect
from pkgs.common.access.validate import validate
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import AlreadyExistsError, ConflictError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.documents.owned import located
from pkgs.common.resources.documents.places import Placed, load_placed
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import OWN
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Create resources from a file, or from standard input without one (or '-'): YAML or JSON, one or many"
    " documents, or what 'tctl get --with-secrets' sealed. With -f a document that carries a revision"
    " overwrites only that one.",
    Flag("force", "Overwrite what exists", short="f", is_bool=True),
    Flag("confirm", "Accepted for compatibility", is_bool=True),
    passphrase.FLAG,
    usage="[FILE]",
    most=1,
)
BELONGS_TO_CLUSTER = OWN | {"access_request", "autoupdate_agent_rollout"}
MAX_BYTES = 64 * 1024 * 1024


def run(args: Parsed) -> int:
    """Check them all here, then put one after the other; the first failure ends it."""
    name = args.words[0] if args.words else "-"
    source = "<stdin>" if name == "-" else name
    text = passphrase.opened(_read(name), args, source)
    documents = load_placed(text, source)
    if not documents:
        raise InputError("no resources found, empty input?")
    for document in documents:
        check(document)
    with connect(args) as client:
        for document in documents:
            resource = document.resource
            if resource.kind in BELONGS_TO_CLUSTER and len(documents) > 1:
                # In a backup of another cluster; alone it is refused by the Auth Service, with the reason.
                sys.stdout.write(
                    f'{resource.kind} "{inert(resource.name)}" is each cluster\'s own: left out\n'
                )
                continue
            try:
                done = _put(client, resource, force=args.on("force"))
            except (AlreadyExistsError, ConflictError, InputError, NotFoundError) as error:
                raise document.explained(error) from None
            sys.stdout.write(f'{resource.kind} "{inert(resource.name)}" has been {done}\n')
    return 0


def check(document: Placed) -> None:
    """The checks that need no cluster, so that an error names the line before anything is written."""
    if document.resource.kind in BELONGS_TO_CLUSTER:
        return
    try:
        validate(located(document.resource))
    except InputError as error:
        raise document.explained(error) from None


def _put(client: BlockingClient, resource: Resource, *, force: bool) -> str:
    try:
        stored = client.call(PutResource(resource=resource, mode="create"))
    except AlreadyExistsError as error:
        if not force:
            raise AlreadyExistsError(f"{error.message}, use -f or --force flag to overwrite") from error
        stored = client.call(PutResource(resource=resource, mode="upsert"))
    warn(stored.warnings)
    return stored.change


def warn(warnings: Sequence[str]) -> None:
    """What the Auth Service kept and doubts."""
    for text in warnings:
        sys.stderr.write(f"WARNING: {inert(text)}\n")


def _read(name: str) -> str:
    if name == "-":
        if sys.stdin.isatty():
            sys.stderr.write("Reading resources from standard input; end with Ctrl-D.\n")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        try:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise NotFoundError(f"there is no file {name}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: more than {MAX_BYTES // 1048576} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}") from error
