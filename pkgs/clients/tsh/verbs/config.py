"""`tsh config`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.multiplex import place
from pkgs.clients.tsh.profile.login import Login, alive, current
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Print a configuration for OpenSSH; after 'tsh config >> ~/.ssh/config' the programs ssh, scp, sftp,"
    " rsync, git and Ansible reach user@node.<cluster>. Without --proxy or --cluster it is for every cluster"
    " you are logged in to.",
    Flag("port", "Port of the nodes", short="p", default=str(openssh.PORT), metavar="PORT"),
    Flag("multiplex", "Let connections go through 'tsh proxy ssh-multiplex' while that runs", is_bool=True),
    CLUSTER,
)


def run(args: Parsed) -> int:
    """Print a block for each login; with --proxy or --cluster for that one only."""
    login = current(args)
    if login.identity_file:
        raise InputError("tsh config describes a stored login, not an identity file", hint="leave out -i")
    logins = [login]
    if not args.text("proxy") and not args.text("cluster"):
        logins += [other for other in alive() if other.profile_name != login.profile_name]
    port = args.whole("port", least=1)
    if args.on("multiplex"):
        # In front of all others: OpenSSH takes the first value that it finds.
        sys.stdout.writelines(place.config_block(each, port) for each in in_order(logins))
    sys.stdout.writelines(openssh.config_block(each, port) for each in in_order(logins))
    return 0


def in_order(logins: list[Login]) -> list[Login]:
    """Longer names of clusters first. OpenSSH takes the first block that matches, and `*.b` also matches
    node.a.b, which would go to the wrong proxy. Of equal ones the first (the current login) wins."""
    return sorted(logins, key=lambda login: -len(login.cluster))
