"""`tctl auth sign`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas, duration
from pkgs.clients.tctl.verbs.auth import databases
from pkgs.common.api.login import SignHostCert, SignUserCerts, UserCerts
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.pki.identityfile import IdentityFile, write_identity_file
from pkgs.common.pki.keys import new_ssh_key, new_tls_key, public_line_of
from pkgs.common.pki.trust import Trust
from pkgs.common.runtime.atomicfile import write_atomic

SPEC = Spec(
    "Issue certificates: for a user as one identity file (file), an OpenSSH key pair (openssh) or TLS files"
    " (tls); for a host's OpenSSH server with --host and --format=openssh; for a database server with --host"
    " and --format=db, or its product's name, which says what to configure there too. The private key is made"
    " here.",
    Flag("user", "User the certificates are for", metavar="NAME"),
    Flag("host", "Host names and addresses the certificate is for, comma separated", metavar="NAMES"),
    Flag("out", "File to write, or the first part of several names (required)", short="o", metavar="FILE"),
    Flag("format", "Form of the output", default="file",
         choices=("file", "openssh", "tls", *databases.FORMATS), metavar="FORMAT"),
    Flag("ttl", "How long the certificates are valid; capped by the user's roles; of a database 2190h where"
         " none is given", default="12h",
         metavar="DURATION"),
    Flag("overwrite", "Replace files that exist", is_bool=True),
)  # fmt: skip


def run(args: Parsed) -> int:
    """Make keys, have them certified, write the files."""
    if bool(args.text("user")) == bool(args.text("host")):
        raise InputError("--user or --host must be specified", hint="one of them")
    if not args.text("out"):
        raise InputError("--out is required")
    if args.text("format") in databases.FORMATS:
        return databases.run(args)
    if args.text("host") and args.text("format") != "openssh":
        raise InputError("--host needs --format=openssh, or that of a database")
    out = Path(args.text("out"))
    names = {
        "file": [out],
        "openssh": [out, out.with_name(out.name + "-cert.pub")],
        "tls": [out.with_name(out.name + ending) for ending in (".key", ".crt", ".cas")],
    }[args.text("format")]
    databases.check_free(names, args)
    contents = _host(args) if args.text("host") else _user(args)
    for path, data in zip(names, contents, strict=True):
        write_atomic(path, data)
    sys.stdout.write(f"\nThe credentials have been written to {', '.join(map(str, names))}\n")
    return 0


def _host(args: Parsed) -> list[bytes]:
    key = new_ssh_key()
    # Without --ttl a host's certificate does not expire, like those of the cluster's own hosts.
    ttl_s = duration(args, "ttl") if "ttl" in args.given else 0
    request = SignHostCert(principals=commas(args.text("host")), ssh_public_key=key.public_line, ttl_s=ttl_s)
    with connect(args) as client:
        return [key.private_pem, (client.call(request).ssh_cert.strip() + "\n").encode()]


def _user(args: Parsed) -> list[bytes]:
    form = args.text("format")
    tls = new_tls_key()
    if form == "openssh":
        private, public = new_ssh_key()
    else:
        # One key serves both protocols in an identity file.
        private, public = tls.private_pem, public_line_of(tls.private_pem)
    request = SignUserCerts(
        user=args.text("user"),
        ssh_public_key=public,
        tls_public_key=tls.public_pem,
        ttl_s=duration(args, "ttl"),
    )
    with connect(args) as client:
        certs = client.call(request)
    trust = Trust.from_authorities(certs.authorities, certs.cluster_name)
    roots = trust.tls_roots_pem("host")
    if form == "openssh":
        return [private, (certs.ssh_cert.strip() + "\n").encode()]
    if form == "tls":
        return [private, certs.tls_cert.encode(), roots.encode()]
    return [_identity(private, certs, trust, roots)]


def _identity(private: bytes, certs: UserCerts, trust: Trust, roots: str) -> bytes:
    identity = IdentityFile(
        private_key=private,
        ssh_cert=certs.ssh_cert.strip(),
        tls_cert=certs.tls_cert,
        tls_ca_certs=(roots,),
        ssh_ca_lines=tuple(trust.known_hosts_lines()),
    )
    return write_identity_file(identity)
