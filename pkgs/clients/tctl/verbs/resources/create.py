"""`tctl create`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import AlreadyExistsError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import OWN
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Create resources from a file, or from standard input without one (or '-'): YAML or JSON, one or many"
    " documents.",
    Flag("force", "Overwrite what exists", short="f", is_bool=True),
    Flag("confirm", "Accepted for compatibility", is_bool=True),
    usage="[FILE]",
    most=1,
)
BELONGS_TO_CLUSTER = OWN | {"access_request", "autoupdate_agent_rollout"}
MAX_BYTES = 64 * 1024 * 1024


def run(args: Parsed) -> int:
    """Put one resource after the other; the first failure ends it."""
    name = args.words[0] if args.words else "-"
    text = _read(name)
    resources = load_documents(text, "<stdin>" if name == "-" else name)
    if not resources:
        raise InputError("no resources found, empty input?")
    with connect(args) as client:
        for resource in resources:
            if resource.kind in BELONGS_TO_CLUSTER and len(resources) > 1:
                # In a backup of another cluster; alone it is refused by the Auth Service, with the reason.
                sys.stdout.write(
                    f'{resource.kind} "{inert(resource.name)}" is each cluster\'s own: left out\n'
                )
                continue
            done = _put(client, resource, force=args.on("force"))
            sys.stdout.write(f'{resource.kind} "{inert(resource.name)}" has been {done}\n')
    return 0


def _put(client: BlockingClient, resource: Resource, *, force: bool) -> str:
    try:
        client.call(PutResource(resource=resource, mode="create"))
    except AlreadyExistsError as error:
        if not force:
            raise AlreadyExistsError(f"{error.message}, use -f or --force flag to overwrite") from error
        client.call(PutResource(resource=resource, mode="upsert"))
        return "updated"
    return "created"


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
