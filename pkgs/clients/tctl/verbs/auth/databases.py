"""`tctl auth sign --format=db` and the like: certificates for database servers, and what to do with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas, duration
from pkgs.common.api.databases import SignDatabaseServerCert
from pkgs.common.errors import AlreadyExistsError, InputError
from pkgs.common.output.argv import Parsed
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.runtime.atomicfile import write_atomic

DEFAULT_TTL_S = 2190 * 3600
"""A quarter of a year: a database has to be told of new files, so that nobody does it daily."""

_POSTGRES = """\
postgresql.conf:

  ssl = on
  ssl_cert_file = '{crt}'
  ssl_key_file = '{key}'
  ssl_ca_file = '{cas}'

pg_hba.conf, for each user that the cluster may log in as, or for all:

  hostssl all  all  all  cert

The files must belong to the server's user. A user "alice" is who shows a certificate for alice.
"""
_MYSQL = """\
my.cnf:

  [mysqld]
  ssl-cert = {crt}
  ssl-key = {key}
  ssl-ca = {cas}
  require_secure_transport = ON

The files must belong to the server's user. A user is who shows a certificate for its name:

  CREATE USER alice REQUIRE SUBJECT '/CN=alice';
"""
_REDIS = """\
redis.conf:

  port 0
  tls-port 6379
  tls-cert-file {crt}
  tls-key-file {key}
  tls-ca-cert-file {cas}
  tls-auth-clients yes

The files must belong to the server's user. The agent logs in as the user that the client asks for: give the
users of the cluster's people no password (`nopass`), and let nobody connect without such a certificate.
"""
_CLICKHOUSE = """\
config.xml, in <openSSL><server>:

  <certificateFile>{crt}</certificateFile>
  <privateKeyFile>{key}</privateKeyFile>
  <caConfig>{cas}</caConfig>
  <verificationMode>strict</verificationMode>

and a user who shows a certificate for its name:

  CREATE USER alice IDENTIFIED WITH ssl_certificate CN 'alice';
"""
_ANY = """\
Configure the database server with

  certificate            {crt}
  private key            {key}
  trusted for clients    {cas}

and have it demand a certificate of its clients, whose common name is the database user.
"""
FORMATS: dict[str, str] = {
    "db": _ANY,
    "postgres": _POSTGRES,
    "cockroachdb": _ANY,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "redis": _REDIS,
    "clickhouse": _CLICKHOUSE,
}
"""Formats, and what is said about each."""


def run(args: Parsed) -> int:
    """Make a key, have it certified, write the files, say what they are for."""
    if not args.text("host"):
        raise InputError("a database's certificate needs --host", hint="the names that agents dial it by")
    out = Path(args.text("out"))
    key_file, crt, cas = (out.with_name(out.name + ending) for ending in (".key", ".crt", ".cas"))
    check_free((key_file, crt, cas), args)
    key = new_tls_key()
    request = SignDatabaseServerCert(
        names=commas(args.text("host")),
        public_key=key.public_pem,
        ttl_s=duration(args, "ttl") if "ttl" in args.given else DEFAULT_TTL_S,
    )
    with connect(args) as client:
        signed = client.call(request)
    for path, data in (
        (key_file, key.private_pem),
        (crt, signed.cert.encode()),
        (cas, signed.client_authorities.encode()),
    ):
        write_atomic(path, data)
    text = FORMATS[args.text("format")].format(
        crt=crt.absolute(), key=key_file.absolute(), cas=cas.absolute()
    )
    sys.stdout.write(f"\nThe credentials have been written to {key_file}, {crt}, {cas}\n\n{text}")
    return 0


def check_free(paths: Sequence[Path], args: Parsed) -> None:
    """Raises AlreadyExistsError, unless existing files may be replaced."""
    existing = [path for path in paths if path.exists()]
    if existing and not args.on("overwrite"):
        raise AlreadyExistsError(f"{existing[0]} exists", hint="add --overwrite")
