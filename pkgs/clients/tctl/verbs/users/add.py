"""`tctl users add`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import TEXT_OR_JSON, commas, duration
from pkgs.clients.tctl.verbs.users import invitation
from pkgs.clients.tctl.verbs.users.traits import TRAITS, trait_flags, traits_of
from pkgs.common.api.login import CreateUser
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Create a user without a password and print a link with which they set one. Traits such as --logins are"
    " what roles refer to as {{internal.logins}}.",
    Flag("roles", "Roles of the user, comma separated (required)", metavar="ROLES"),
    *trait_flags("", TRAITS),
    Flag("ttl", "How long the link is valid, at most 48h", default="1h", metavar="DURATION"),
    TEXT_OR_JSON,
    usage="ACCOUNT",
    least=1,
    most=1,
)
LONGEST_S = 48 * 3600.0


def run(args: Parsed) -> int:
    """Create and print the invitation."""
    roles = commas(args.text("roles"))
    if not roles:
        raise InputError("--roles is required", hint="for example --roles=access")
    ttl_s = duration(args, "ttl", most_s=LONGEST_S)
    traits = {name: values for name, values in traits_of(args, "", TRAITS).items() if values}
    request = CreateUser(name=args.words[0], roles=roles, traits=traits, ttl_s=ttl_s)
    with connect(args) as client:
        answer = client.call(request)
    head = (
        f'User "{answer.user}" has been created but requires a password. Share this URL with the user to'
        " complete user setup"
    )
    invitation.show(answer, head, args.text("format"))
    return 0
