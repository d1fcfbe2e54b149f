"""`tctl get`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl import passphrase
from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.clients.tctl.verbs.resources.tables import table_of
from pkgs.common.access.lists.membership import restorable
from pkgs.common.api.resources import GetResource
from pkgs.common.errors import DeniedError, InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import parts, write_list
from pkgs.common.output.table import terminal_width
from pkgs.common.resources.bots import bot_of
from pkgs.common.resources.documents.owned import with_revision
from pkgs.common.resources.kinds import Node, Resource, Token
from pkgs.common.resources.registry import ALL, PRESENCE, SINGLETONS, Ref, parse_refs
from pkgs.common.rpc.calls import BlockingClient

SPEC = Spec(
    "Print resources: tctl get roles, tctl get role/access,user/alice, tctl get all. YAML and JSON can be fed"
    " back to 'tctl create'. 'all' is a backup in the order in which it can be restored, without revisions,"
    " and without secrets unless --with-secrets is given: then join tokens, connector secrets and private"
    " keys are in it. Never in it are passwords, second factors, the audit log and recordings. What has"
    " secrets is sealed by a passphrase, which is asked for twice; 'tctl create' and 'tctl apply' read it.",
    Flag("format", "Output format", default="yaml",
         choices=("yaml", "json", "text"), metavar="FORMAT"),
    Flag("with-secrets", "Include private keys and other secrets, sealed by a passphrase", is_bool=True),
    Flag("unsealed", "With --with-secrets: print the secrets in the clear", is_bool=True),
    passphrase.FLAG,
    Flag("verbose", "Do not cut labels in text", short="v", is_bool=True),
    usage="KIND[/NAME][,...]",
    least=1,
    most=1,
)  # fmt: skip

ORIGIN = "teleport.dev/origin"


def run(args: Parsed) -> int:
    """Fetch and print."""
    refs = parse_refs(args.words[0])
    everything = args.words[0].strip().lower() == ALL
    secrets = args.on("with-secrets")
    if secrets and args.text("format") == "text":
        raise InputError("a table shows no secrets", hint="use --format=yaml or json")
    if args.on("unsealed") and not secrets:
        raise InputError("--unsealed is for --with-secrets")
    # Asked for before anything secret is fetched.
    words = passphrase.new_passphrase(args) if secrets and not args.on("unsealed") else ""
    found: list[Resource] = []
    with connect(args) as client:
        for ref in refs:
            try:
                fetched = _fetch(client, ref, secrets=secrets)
            except NotFoundError:
                if not everything:
                    raise
                continue
            except DeniedError:
                # `all` means all that this caller may see; a backup that lacks secrets must not look whole.
                if not everything or secrets:
                    raise
                continue
            found += [r for r in fetched if is_kept(r, secrets=secrets)] if everything else fetched
    if args.text("format") == "text":
        width = None if args.on("verbose") else terminal_width()
        sys.stdout.write(_tables(list(dict.fromkeys(ref.kind for ref in refs)), found, width=width))
        return 0
    if everything:
        # In another cluster the revisions of this one mean nothing.
        found = [with_revision(resource, "") for resource in found]
    if secrets and not args.on("unsealed"):
        text = "".join(parts(found, args.text("format"), with_secrets=True))
        sys.stdout.write(passphrase.sealed(text, words))
        return 0
    if secrets:
        passphrase.warn_unsealed()
    write_list(found, args.text("format"), with_secrets=secrets)
    return 0


def _tables(kinds: list[str], found: list[Resource], *, width: int | None) -> str:
    """A table per kind; several are told apart by a line with the kind's name."""
    if len(kinds) == 1:
        return table_of(kinds[0], found, width=width)
    parts = []
    for kind in kinds:
        own = [resource for resource in found if resource.kind == kind]
        if own:
            parts.append(f"{kind}:\n{table_of(kind, own, width=width)}")
    return "\n".join(parts)


def is_kept(resource: Resource, *, secrets: bool) -> bool:
    """Whether a resource belongs into a backup: not presence, which comes back by itself, not what the
    configuration file says, nor users and roles that come back with their bots; and a token, whose name is
    its secret, only with secrets."""
    if resource.metadata.labels.get(ORIGIN) == "config-file":
        return False
    if bot_of(resource):
        return False
    if resource.kind in PRESENCE:
        return isinstance(resource, Node) and resource.metadata.expires is None
    if isinstance(resource, Token):
        return secrets or resource.spec.join_method != "token"
    return True


def _fetch(client: BlockingClient, ref: Ref, *, secrets: bool) -> list[Resource]:
    if not ref.name and ref.kind not in SINGLETONS:
        found = fetch_all(client, ref.kind, with_secrets=secrets)
        # A list is created after the lists that own it.
        return list(restorable(found)) if ref.kind == "access_list" else found
    if ref.kind == "cert_authority" and not ref.sub_kind:
        # `cert_authority/user`: the type is what people name.
        every = fetch_all(client, ref.kind, with_secrets=secrets)
        return [ca for ca in every if ref.name in (ca.sub_kind, ca.name)]
    if ref.kind == "db_server" and not ref.sub_kind:
        # Several agents may serve databases of one name.
        servers = [server for server in fetch_all(client, ref.kind) if server.name == ref.name]
        if not servers:
            raise NotFoundError(f'{ref.kind} "{ref.name}" not found')
        return servers
    request = GetResource(
        kind=ref.kind, name=ref.name or SINGLETONS[ref.kind], sub_kind=ref.sub_kind, with_secrets=secrets
    )
    return [client.call(request).resource]
