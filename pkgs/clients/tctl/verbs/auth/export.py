"""`tctl auth export`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.inventory import fetch_all
from pkgs.common.api.system import GetTrustAnchors
from pkgs.common.errors import InputError, NotFoundError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.pki.keys import ssh_fingerprint
from pkgs.common.resources.kinds import CaKeySet, CertAuthority

SPEC = Spec(
    "Print an authority's public keys: 'user' as OpenSSH cert-authority lines for TrustedUserCAKeys,"
    " 'openssh' as plain lines for the TrustedUserCAKeys of servers without an agent,"
    " 'host' as @cert-authority lines for known_hosts, 'tls-user' and 'tls-host' as PEM certificates.",
    Flag("type", "Which authority (required)", choices=("user", "host", "openssh", "tls-user", "tls-host"),
         metavar="TYPE"),
    Flag("fingerprint", "Only the key with this fingerprint (SHA256:...)", metavar="FINGERPRINT"),
    Flag("keys", "Print the private keys instead", is_bool=True),
)  # fmt: skip


def run(args: Parsed) -> int:
    """Ask and print."""
    if not args.text("type"):
        raise InputError("--type is required", hint="user, host, openssh, tls-user or tls-host")
    kind = args.text("type").removeprefix("tls-")
    with connect(args) as client:
        if args.on("keys"):
            every = fetch_all(client, "cert_authority", with_secrets=True)
        else:
            every = [*client.call(GetTrustAnchors()).authorities]
    found = [ca for ca in every if isinstance(ca, CertAuthority) and ca.spec.type == kind]
    lines: list[str] = []
    for ca in found:
        for keys in (ca.spec.active_keys, ca.spec.additional_trusted_keys):
            lines += _tls(keys, args) if args.text("type").startswith("tls-") else _ssh(ca, keys, args)
    if not lines:
        raise NotFoundError(f"there is no {args.text('type')} authority with that key")
    sys.stdout.writelines(line.rstrip("\n") + "\n" for line in lines)
    return 0


def _tls(keys: CaKeySet, args: Parsed) -> list[str]:
    return [pair.key.decode() if args.on("keys") else pair.cert for pair in keys.tls]


def _ssh(ca: CertAuthority, keys: CaKeySet, args: Parsed) -> list[str]:
    cluster, lines = ca.spec.cluster_name, []
    for pair in keys.ssh:
        public = " ".join(pair.public_key.split()[:2])
        if args.text("fingerprint") not in ("", ssh_fingerprint(public)):
            continue
        if args.on("keys"):
            lines.append(pair.private_key.decode())
        elif ca.spec.type == "openssh":
            lines.append(public)
        elif ca.spec.type == "user":
            lines.append(f"cert-authority {public} clustername={cluster}&type=user")
        else:
            lines.append(f"@cert-authority *.{cluster},{cluster} {public} clustername={cluster}&type=host")
    return lines
