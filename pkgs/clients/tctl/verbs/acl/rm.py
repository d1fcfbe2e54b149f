"""`tctl acl rm`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.verbs.acl.grants import FOR_LIST, access_role_name, request_role_name
from pkgs.common.api.resources import DeleteResource, GetResource
from pkgs.common.errors import NotFoundError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Delete an access list with its members, its reviews, and the roles that were made for it.",
    usage="NAME",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Delete the list first: a role that it grants cannot go before."""
    name = args.words[0]
    with connect(args) as client:
        client.call(DeleteResource(kind="access_list", name=name))
        sys.stdout.write(f'access list "{inert(name)}" has been deleted\n')
        remove_roles(client, name)
    sys.stderr.write(
        "What the list gave ends with the certificates that have it; 'tctl lock --user=NAME' ends it now.\n"
    )
    return 0


def remove_roles(client: BlockingClient, list_name: str, keep: Sequence[str] = ()) -> None:
    """Delete the roles that were made for a list, by their label; others of such a name stay."""
    # The one that lets members request the other goes first.
    for role in (request_role_name(list_name), access_role_name(list_name)):
        if role in keep:
            continue
        try:
            found = client.call(GetResource(kind="role", name=role)).resource
        except NotFoundError:
            continue
        if found.metadata.labels.get(FOR_LIST) == list_name:
            client.call(DeleteResource(kind="role", name=role))
            sys.stdout.write(f'role "{inert(role)}" has been deleted\n')
