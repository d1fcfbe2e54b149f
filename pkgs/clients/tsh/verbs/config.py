"""`tsh config`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Print a configuration for OpenSSH; after 'tsh config >> ~/.ssh/config' the programs ssh, scp, sftp,"
    " rsync, git and Ansible reach user@node.<cluster>.",
    Flag("port", "Port of the nodes", short="p", default=str(openssh.PORT), metavar="PORT"),
    CLUSTER,
)


def run(args: Parsed) -> int:
    """Print the block."""
    login = current(args)
    if login.identity_file:
        raise InputError("tsh config describes a stored login, not an identity file", hint="leave out -i")
    sys.stdout.write(openssh.config_block(login, args.whole("port", least=1)))
    return 0
