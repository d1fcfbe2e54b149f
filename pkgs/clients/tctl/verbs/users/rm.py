"""`tctl users rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.common.api.resources import DeleteResource
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Delete users.", usage="ACCOUNT[,ACCOUNT...]", least=1, most=1)


def run(args: Parsed) -> int:
    """Delete one after the other; the first failure ends it."""
    names = commas(args.words[0])
    if not names:
        raise InputError("no user is named", hint="give a name, or several divided by commas")
    with connect(args) as client:
        for name in names:
            client.call(DeleteResource(kind="user", name=name))
            sys.stdout.write(f'User "{inert(name)}" has been deleted\n')
    sys.stderr.write(
        "Certificates issued before open servers until they expire; 'tctl lock --user=NAME' ends them.\n"
    )
    return 0
