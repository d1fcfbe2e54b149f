"""`teleport configure`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

_ROLES = ("auth", "proxy", "node")

OUTPUT = Flag(
    "output", "stdout, file (the default place) or a path", short="o", default="stdout", metavar="WHERE"
)
CLUSTER_NAME = Flag("cluster-name", "Name of the cluster, never changed afterwards", metavar="NAME")
VERSION_FLAG = Flag("version", "Version of the file", default="v3", choices=("v3",), metavar="VERSION")
PUBLIC_ADDR = Flag("public-addr", "How users reach the proxy, host:port", metavar="ADDR")
DATA_DIR = Flag("data-dir", "Where state lives", default="/var/lib/teleport", metavar="DIR")
TOKEN = Flag("token", "Join token, or the path of a file with it", metavar="TOKEN")
JOIN_METHOD = Flag("join-method", "How agents join", default="token", choices=("token",), metavar="METHOD")
AUTH_SERVER = Flag("auth-server", "Address of the Auth Service to join", metavar="ADDR")
PROXY = Flag("proxy", "Address of the proxy to join through", metavar="ADDR")
NODE_NAME = Flag("node-name", "Name of this host", metavar="NAME")

SPEC = Spec(
    "Print a commented configuration to start from; with --test, check a file instead.",
    OUTPUT,
    Flag("test", "Check this file and print nothing but errors", metavar="FILE"),
    CLUSTER_NAME,
    VERSION_FLAG,
    PUBLIC_ADDR,
    Flag("cert-file", "Certificate for the public name", metavar="FILE"),
    Flag("key-file", "Its private key", metavar="FILE"),
    DATA_DIR,
    TOKEN,
    JOIN_METHOD,
    Flag("roles", "Services of this host: auth, proxy, node", default="auth,proxy,node", metavar="ROLE,..."),
    AUTH_SERVER,
    PROXY,
    NODE_NAME,
    Flag("node-labels", "Labels of this host", metavar="K=V,..."),
)


def run(args: Parsed) -> int:
    """Check, or print."""
    from pkgs.clients.teleport.sample import Wishes
    from pkgs.common.runtime.config import load_config
    from pkgs.common.runtime.flags import parse_labels

    if path := args.text("test"):
        for setting in load_config(path).without_effect:
            sys.stderr.write(f"{path}: {setting}: has no effect in this version\n")
        sys.stderr.write(f"{path}: ok\n")
        return 0
    roles = frozenset(role.strip().lower() for role in args.text("roles").split(",") if role.strip())
    for role in sorted(roles):
        if role not in _ROLES:
            raise InputError(f"--roles: {role[:40]!r} is not one of {', '.join(_ROLES)}")
    if bool(args.text("cert-file")) != bool(args.text("key-file")):
        raise InputError("--cert-file and --key-file go together")
    return write(
        args,
        Wishes(
            version=args.text("version"),
            cluster_name=args.text("cluster-name"),
            public_addr=args.text("public-addr"),
            data_dir=args.text("data-dir"),
            node_name=args.text("node-name"),
            node_labels=parse_labels(args.text("node-labels"), "--node-labels"),
            roles=roles,
            auth_server=args.text("auth-server"),
            proxy_server=args.text("proxy"),
            token=args.text("token"),
            cert_file=args.text("cert-file"),
            key_file=args.text("key-file"),
        ),
    )


def write(args: Parsed, wishes: object) -> int:
    """Prints the file, or writes it, after checking that it is valid."""
    from pkgs.clients.teleport.sample import Wishes, render
    from pkgs.common.runtime.config import parse_config

    assert isinstance(wishes, Wishes)
    if "auth" not in wishes.roles and not (wishes.proxy_server or wishes.auth_server):
        raise InputError("an agent needs a cluster to join", hint="give --proxy or --auth-server")
    text = render(wishes)
    parse_config(text, "the configuration asked for")
    where = args.text("output")
    if where == "stdout":
        sys.stdout.write(text)
        return 0
    path = Path(args.text("config") if where == "file" else where.removeprefix("file://"))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} exists already", hint="choose another --output") from None
    sys.stdout.write(f"Wrote {path}. Run 'teleport start -c {path}'.\n")
    return 0
