"""`tctl status`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.common.api.system import GetClusterStatus
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import render

SPEC = Spec("Show the cluster's name, version, CA pins and certificate authorities.", FORMAT)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        status = client.call(GetClusterStatus())
    if args.text("format") != "text":
        formats.write(status, args.text("format"))
        return 0
    pins = [inert(pin) for pin in status.ca_pins]
    sys.stdout.write(f"Cluster:  {inert(status.cluster_name)}\nVersion:  {inert(status.server_version)}\n")
    sys.stdout.write(f"CA pins:  {(chr(10) + ' ' * 10).join(pins)}\n\n")
    rows = [
        (ca.type, ca.rotation, ca.protocol, ca.status, ca.algorithm, ca.storage) for ca in status.authorities
    ]
    sys.stdout.write(render(("authority", "rotation", "protocol", "status", "algorithm", "storage"), rows))
    return 0
