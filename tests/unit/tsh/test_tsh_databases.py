"""What native clients are told: words and variables in which no name can pose as something else."""

from __future__ import annotations

import shutil
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.databases import clients, direct
from pkgs.clients.tsh.login import flow
from pkgs.clients.tsh.login.webapi import PingDatabases, PingProxy, Pong
from pkgs.clients.tsh.profile.certfacts import CertFacts
from pkgs.clients.tsh.profile.home import Paths, Profile
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.verbs.db.config import _command, _quoted
from pkgs.common.errors import InputError, NotFoundError


@given(user=st.text(min_size=1, max_size=20), name=st.text(max_size=20))
def test_a26_names_stay_names_in_an_address(user: str, name: str) -> None:
    try:
        user.encode(), name.encode()
    except UnicodeEncodeError:
        return
    parts = urlsplit(clients.url("postgres", 5432, user, name))
    assert (parts.hostname, parts.port) == ("127.0.0.1", 5432)
    assert (unquote(parts.username or ""), unquote(parts.path[1:])) == (user, name)
    assert parts.query == "sslmode=disable&gssencmode=disable"


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("app", "app"),
        ("/home/ann/.tsh/keys/ca.pem", "/home/ann/.tsh/keys/ca.pem"),
        ("app host=evil sslmode=disable", "'app host=evil sslmode=disable'"),
        ("it's", "'it\\'s'"),
        ("back\\slash'", "'back\\\\slash\\''"),
        ("", "''"),
    ],
)
def test_a26_a_value_of_a_connection_string_is_one_value(value: str, quoted: str) -> None:
    assert _quoted(value) == quoted


def test_the_words_of_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert clients.command("postgres", 5, "u", "d", "select 1") == [
        "psql",
        "postgresql://u@127.0.0.1:5/d?sslmode=disable&gssencmode=disable",
        "-c",
        "select 1",
    ]
    # A name is never taken for another option, and no server gets the user's files.
    assert clients.command("mysql", 5, "u", "--tee=/etc/x") == [
        *("mariadb", "--host=127.0.0.1", "--port=5", "--protocol=TCP", "--skip-ssl", "--user=u"),
        *("--local-infile=0", "--database=--tee=/etc/x"),
    ]
    assert clients.command("redis", 5, "u", "", "get 'a b'") == [
        *("redis-cli", "-h", "127.0.0.1", "-p", "5", "get", "a b")
    ]
    with pytest.raises(InputError, match="knows no client"):
        clients.command("snowflake", 5, "u", "d")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NotFoundError, match="mariadb or mysql is not installed"):
        clients.command("mysql", 5, "u", "d")
    assert clients.command("mysql", 5, "u", "d", installed=False)[0] == "mariadb"


def test_variables_are_for_clients_that_know_them() -> None:
    where = {"host": "orders.db.demo", "port": 443, "ca": "/ca", "cert": "/crt", "key": "/key"}
    found = clients.environment("postgres", user="u", database="", **where)  # type: ignore[arg-type]
    assert found["PGSSLMODE"] == "verify-full" and "PGDATABASE" not in found
    found = clients.environment("mysql", user="u", database="", **where)  # type: ignore[arg-type]
    assert found == {"MYSQL_HOST": "orders.db.demo", "MYSQL_TCP_PORT": "443"}
    with pytest.raises(InputError):
        clients.environment("redis", user="u", database="", **where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("listens", "public", "addr"),
    [
        ("", "", ""),
        ("", "db.example.com:3306", "db.example.com:3306"),
        ("0.0.0.0:3036", "", "hub:3036"),
        ("[::]:3036", "", "hub:3036"),
        ("0.0.0.0:3036", "db.example.com:3306", "db.example.com:3306"),
    ],
)
def test_where_the_proxy_takes_mysql_clients(listens: str, public: str, addr: str) -> None:
    told = PingDatabases(mysql_listen_addr=listens, mysql_public_addr=public)
    pong = Pong(cluster_name="demo", proxy=PingProxy(db=told))
    assert flow._mysql_addr(pong, "hub:443") == addr


def test_mysql_clients_need_a_port_of_their_own() -> None:
    for mysql in ("hub:3036", ""):
        profile = Profile("hub", "hub:443", "ann", "demo", "", mysql)
        login = Login(
            home_dir="", profile=profile, paths=Paths("", profile), facts=CertFacts.__new__(CertFacts)
        )
        assert direct.proxy_addr(login, "redis") == "hub:443"
        if mysql:
            assert direct.proxy_addr(login, "mysql") == mysql
        else:
            with pytest.raises(InputError, match=r"no port for MySQL clients"):
                direct.proxy_addr(login, "mysql")


def test_the_words_of_clients_by_their_own_tls() -> None:
    facts = {"host": "orders.db.demo", "port": "443", "ca": "/c a", "cert": "/crt", "key": "/key"}
    files = ["--cacert", "/c a", "--cert", "/crt", "--key", "/key"]
    assert _command({**facts, "protocol": "redis"}) == [
        *("redis-cli", "-h", "orders.db.demo", "-p", "443", "--tls", "--sni", "orders.db.demo"), *files
    ]  # fmt: skip
    curl = ["curl", *files, "https://orders.db.demo:443/"]
    assert _command({**facts, "protocol": "clickhouse-http"}) == curl
    for protocol in ("mysql", "snowflake"):
        with pytest.raises(InputError, match="no such command"):
            _command({**facts, "protocol": protocol})
