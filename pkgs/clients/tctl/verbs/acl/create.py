"""`tctl acl create`."""

from __future__ import annotations

import sys
import uuid

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.clients.tctl.verbs.acl import grants
from pkgs.common.api.accesslists import AddMember, GetAccessList
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import AlreadyExistsError, DeniedError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Create an access list; without NAME it gets a random one. What its members receive is roles"
    " (--member-grant-roles), traits, or resources: a role is made for those, and granted"
    " (--access-type=standing) or requestable (request-based). Reviewed every 6 months by default.",
    *grants.FLAGS,
    Flag("members", "Users who are let in, comma separated", metavar="USERS"),
    Flag("member-access-lists", "Lists whose members are let in, comma separated", metavar="LISTS"),
    usage="[NAME]",
    most=1,
)


def run(args: Parsed) -> int:
    """Create the roles, the list, the members, in this order; the first failure ends it."""
    name = args.words[0] if args.words else str(uuid.uuid4())
    if not args.text("title"):
        raise InputError("--title is required", hint="what people call the list")
    if not args.text("owners") and not args.text("owner-access-lists"):
        raise InputError("a list needs an owner", hint="use --owners or --owner-access-lists")
    roles = grants.roles_for(args, name)
    wanted = grants.granting(grants.new_list(args, name), roles)
    with connect(args) as client:
        _refuse_existing(client, name)
        for role in roles:
            client.call(PutResource(resource=role, mode="create"))
            sys.stdout.write(f'role "{inert(role.name)}" has been created\n')
        client.call(PutResource(resource=wanted, mode="create"))
        sys.stdout.write(f'access list "{inert(name)}" has been created\n')
        for member in commas(args.text("members")):
            client.call(AddMember(access_list=name, name=member))
            sys.stdout.write(f'user "{inert(member)}" has been added\n')
        for member in commas(args.text("member-access-lists")):
            client.call(AddMember(access_list=name, name=member, kind="list"))
            sys.stdout.write(f'list "{inert(member)}" has been added\n')
    return 0


def _refuse_existing(client: BlockingClient, name: str) -> None:
    """Before its roles are made, which would be left over. Of two who create at once the Auth Service refuses
    one."""
    try:
        client.call(GetAccessList(name=name))
    except (NotFoundError, DeniedError):
        return
    raise AlreadyExistsError(f'access list "{name}" already exists', hint="`tctl acl update` changes it")
