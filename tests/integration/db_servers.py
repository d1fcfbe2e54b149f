"""Real database servers of a test: set up anew in its folder, let in by certificate alone."""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.unit.net import certs

MARIADB_SETUP = """
CREATE DATABASE shop;
CREATE TABLE shop.parts (id INT PRIMARY KEY, name VARCHAR(200));
CREATE USER alice@'%' REQUIRE SUBJECT '/CN=alice';
CREATE USER issued@'%' REQUIRE ISSUER '/CN=test authority';
CREATE USER guarded@'%' IDENTIFIED BY 'a password' REQUIRE X509;
GRANT ALL ON *.* TO alice@'%' WITH GRANT OPTION;
GRANT SELECT ON shop.* TO issued@'%';
"""
MARIADB_OPTIONS = (
    "--no-defaults",
    f"--user={getpass.getuser()}",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--skip-log-bin",
    # Tests run side by side, and of native AIO a machine has only so much.
    "--innodb-use-native-aio=0",
)


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path
    """Unix sockets and logs."""

    @property
    def uri(self) -> str:
        return f"127.0.0.1:{self.port}"


Files = Mapping[str, str]
"""`ca.pem`, `server.pem`, `server.key`: what `tctl auth sign` makes for a server. Else those of the test."""


def write_certificates(folder: Path, files: Files | None) -> None:
    mine = certs.pair(certs.SERVER_NAME)
    made = {"ca.pem": certs.roots(), "server.pem": mine.cert, "server.key": mine.key.decode()}
    for name, text in (files or made).items():
        (folder / name).write_text(text)


@functools.cache
def _new_mariadb_data() -> Path:
    """What `mariadb-install-db` makes, once for all servers of this process: to be copied, for it takes
    seconds each."""
    folder = Path(tempfile.mkdtemp(prefix="maria-new-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = folder / "data"
    more = (f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db")
    subprocess.run(
        ("mariadb-install-db", *MARIADB_OPTIONS, *more), check=True, capture_output=True, timeout=120
    )
    return data


@contextlib.contextmanager
def mariadb(folder: Path, files: Files | None = None, options: Sequence[str] = ()) -> Iterator[Server]:
    write_certificates(folder, files)
    data = folder / "data"
    (folder / "setup.sql").write_text(MARIADB_SETUP)
    subprocess.run(("cp", "-a", str(_new_mariadb_data()), str(data)), check=True, timeout=60)
    server = Server(free_port(), folder)
    command = (
        "mariadbd",
        *MARIADB_OPTIONS,
        f"--datadir={data}",
        f"--port={server.port}",
        "--bind-address=127.0.0.1",
        f"--socket={folder}/mariadb.sock",
        f"--ssl-ca={folder}/ca.pem",
        f"--ssl-cert={folder}/server.pem",
        f"--ssl-key={folder}/server.key",
        f"--init-file={folder}/setup.sql",
        "--local-infile=ON",
        "--skip-name-resolve",
        *options,
    )
    with running(command, folder / "server.log", server.port):
        yield server


@contextlib.contextmanager
def redis(folder: Path, files: Files | None = None) -> Iterator[Server]:
    write_certificates(folder, files)
    server = Server(free_port(), folder)
    (folder / "redis.conf").write_text(
        f"""
port 0
tls-port {server.port}
bind 127.0.0.1
dir {folder}
save ""
tls-ca-cert-file {folder}/ca.pem
tls-cert-file {folder}/server.pem
tls-key-file {folder}/server.key
tls-auth-clients yes
tls-protocols "TLSv1.3"
user default off
user alice on nopass ~* &* +@all
user reader on nopass ~* &* +@read +@connection
user guarded on >secret ~* +@all
"""
    )
    with running(("redis-server", folder / "redis.conf"), folder / "server.log", server.port):
        yield server


@contextlib.contextmanager
def clickhouse(folder: Path, files: Files | None = None) -> Iterator[Server]:
    write_certificates(folder, files)
    server = Server(free_port(), folder)
    (folder / "config.xml").write_text(
        f"""<yandex>
        <logger><level>information</level><console>1</console></logger>
        <https_port>{server.port}</https_port><listen_host>127.0.0.1</listen_host>
        <openSSL><server>
            <certificateFile>{folder}/server.pem</certificateFile>
            <privateKeyFile>{folder}/server.key</privateKeyFile>
            <caConfig>{folder}/ca.pem</caConfig>
            <verificationMode>strict</verificationMode>
            <loadDefaultCAFile>false</loadDefaultCAFile>
            <cacheSessions>false</cacheSessions>
        </server></openSSL>
        <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
        <users_config>{folder}/users.xml</users_config>
        <default_profile>default</default_profile><default_database>default</default_database>
        <mark_cache_size>10000000</mark_cache_size>
        </yandex>"""
    )
    user = "<password></password><networks><ip>::/0</ip></networks>"
    user += "<profile>default</profile><quota>default</quota>"
    (folder / "users.xml").write_text(
        f"""<yandex><profiles><default/></profiles><quotas><default/></quotas>
        <users><alice>{user}</alice><bill>{user}</bill></users></yandex>"""
    )
    command = ("clickhouse-server", f"--config-file={folder}/config.xml")
    with running(command, folder / "server.log", server.port):
        yield server


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, port: int, **how: object) -> Iterator[None]:
    """A program that listens at a port of loopback, until the end. `how`: more for Popen."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **how)  # type: ignore[call-overload]
        try:
            wait_for(
                lambda: process.poll() is not None or _listens(port),
                what=f"{command[0]} to listen",
                deadline_s=60,
            )
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            process.wait(60)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
