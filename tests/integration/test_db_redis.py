"""Redis's own clients and redis-py through the engine, against a real server that takes certificates only."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
import redis as redis_py

from pkgs.agents.db.engine import Failed, Statement
from pkgs.agents.db.redis.engine import RedisEngine
from pkgs.common.errors import DeniedError, UnavailableError
from tests.harness.wait import wait_for
from tests.integration.db_kit import Policy, serving
from tests.integration.db_servers import Server, redis

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "redis-benchmark")

USERS = frozenset(("alice", "reader", "guarded", "nobody"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def service(server: Server) -> Iterator[tuple[int, Policy]]:
    with serving(RedisEngine(), server.uri, users=USERS) as running:
        yield running


def cli(port: int, *arguments: str, said: str = "", user: str = "") -> subprocess.CompletedProcess[str]:
    login = ("--user", user, "--pass", "ignored", "--no-auth-warning") if user else ()
    command = ("redis-cli", "-h", "127.0.0.1", "-p", str(port), *login, *arguments)
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=60)


def connect(port: int, **options: object) -> redis_py.Redis:
    return redis_py.Redis("127.0.0.1", port, **options)


def told(policy: Policy) -> list[str]:
    return [fact.text for fact in policy.facts if isinstance(fact, Statement)]


def test_the_client_is_let_in_by_certificate_and_everything_is_told(service: tuple[int, Policy]) -> None:
    port, policy = service
    assert cli(port, "acl", "whoami").stdout == "alice\n"
    assert cli(port, "get", "a", user="reader").stdout == "\n"
    assert cli(port, "set", "a", "1", user="reader").stdout.startswith("NOPERM")
    policy.settle()
    assert [asked.user for asked in policy.asked] == ["", "reader", "reader"]
    assert told(policy)[:3] == ["acl whoami", "AUTH reader ***", "get a"]
    assert isinstance(policy.facts[-1], Failed)
    assert policy.facts[-1].code == "NOPERM"
    assert "ignored" not in repr(policy.facts)


@pytest.mark.parametrize("user", ["mallory", "guarded", "nobody"])
def test_refusals_come_in_the_shape_of_redis(service: tuple[int, Policy], user: str) -> None:
    port, policy = service
    done = cli(port, "get", "a", user=user)
    assert done.stderr.startswith("AUTH failed: NOPERM"), done.stderr
    if user == "guarded":
        assert "declare the user there without a password: ACL SETUSER guarded on nopass" in done.stderr
    policy.settle()
    assert isinstance(policy.errors[-1], DeniedError)
    assert policy.facts == []


def test_a_server_that_is_down_silent_or_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgs.agents.db.redis.limits.SERVER_LOGIN_S", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        serving(RedisEngine(), f"127.0.0.1:{silent.getsockname()[1]}") as (port, policy),
    ):
        assert cli(port, "get", "a").stdout.startswith("ERR database db did not answer")
    with serving(RedisEngine(), "127.0.0.1:1") as (port, policy):
        assert cli(port, "get", "a").stdout.startswith("ERR ")
        policy.settle()
        assert isinstance(policy.errors[-1], UnavailableError)


def test_a_client_that_says_nothing_or_nonsense_is_not_let_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pkgs.agents.db.redis.limits.FIRST_COMMAND_S", 0.3)
    for said, answer in (
        (b"", b"-ERR the client sent no command"),
        (b"*1\r\n+x\r\n", b"-ERR a Redis command"),
    ):
        with (
            serving(RedisEngine(), server.uri) as (port, policy),
            socket.create_connection(("127.0.0.1", port), 20) as client,
        ):
            client.sendall(said)
            assert client.recv(1000).startswith(answer)
            assert client.recv(10) == b""
            assert policy.asked == []


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_with_everything_it_does(service: tuple[int, Policy], protocol: int) -> None:
    port, policy = service
    options = {"username": "alice", "password": "s3cret", "client_name": "parts", "protocol": protocol}
    with connect(port, **options) as client:
        assert client.set("a", b"\0\xff" * 10)
        assert client.get("a") == b"\0\xff" * 10
        big = b"x" * 20_000_000
        client.set("big", big)
        assert client.get("big") == big
        with client.pipeline() as pipeline:
            pipeline.set("n", 1).incr("n").lpush("l", *range(200)).lrange("l", 0, -1).hset("h", "k", "v")
            pipeline.hgetall("h").execute()
        with pytest.raises(redis_py.ResponseError, match="wrong kind"):
            client.lpush("n", 1)
        with pytest.raises(redis_py.exceptions.NoPermissionError, match="audit"):
            client.execute_command("CLIENT REPLY", "OFF")
        assert client.client_getname() in ("parts", b"parts")
        assert client.eval("return {1, 'two', redis.call('get', 'n')}", 0) == [1, b"two", b"2"]
        assert client.acl_whoami() in ("alice", b"alice")
        client.delete("n", "l", "h", "a", "big")
    policy.settle()
    assert "s3cret" not in repr(policy.facts)
    assert any(fact.cut for fact in policy.facts if isinstance(fact, Statement))
    assert any(isinstance(fact, Failed) and fact.code == "WRONGTYPE" for fact in policy.facts)


@pytest.mark.parametrize("protocol", [2, 3])
def test_published_messages_and_blocking_commands(service: tuple[int, Policy], protocol: int) -> None:
    port, _ = service
    with connect(port, protocol=protocol) as client, client.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("n*")
        wait_for(lambda: subscriber.get_message(timeout=0.1), what="the first confirmation")
        wait_for(lambda: subscriber.get_message(timeout=0.1), what="the second confirmation")
        assert client.publish("news", "hot") == 2
        kinds = {
            wait_for(lambda: subscriber.get_message(timeout=0.1), what="a message")["type"] for _ in "12"
        }
        assert kinds == {"message", "pmessage"}
        waiting = threading.Thread(target=lambda: client.blpop(["queue"], timeout=20))
        waiting.start()
        with connect(port) as other:
            other.rpush("queue", "x")
        waiting.join(20)
        assert not waiting.is_alive()


def test_who_it_is_stays_as_decided(service: tuple[int, Policy]) -> None:
    port, policy = service
    said = (
        "auth default x\nauth alice x\nhello 3 auth default x\nmulti\nset n 1\nexec\nreset\nacl whoami\n"
        "monitor\nconfig set masterauth s3cret\nacl setuser bill >s3cret on\nacl deluser bill\nacl whoami\n"
    )
    done = cli(port, said=said)
    assert [line for line in done.stdout.splitlines() if line] == [
        'WRONGPASS this session is for the database user "alice" and no other',
        "OK",
        'WRONGPASS this session is for the database user "alice" and no other',
        *("OK", "QUEUED", "OK", "RESET", "alice"),
        "NOPERM 'monitor' is not served here: it would evade the audit log",
        *("OK", "OK", "1", "alice"),
    ]
    policy.settle()
    assert "s3cret" not in repr(policy.facts)


def test_answers_of_ours_come_in_their_turn_in_every_state_of_a_connection(
    service: tuple[int, Policy],
) -> None:
    port, _ = service
    said = (
        b"SUBSCRIBE a\r\nMONITOR\r\nAUTH x\r\nGET a\r\nUNSUBSCRIBE\r\n"
        b"MULTI\r\nINCR n\r\nMONITOR\r\nEXEC\r\nBLPOP none 1\r\nAUTH bob x\r\nHELLO 3\r\nSUBSCRIBE a\r\n"
        b"MONITOR\r\nPING\r\nRESET\r\nSYNC\r\nPING\r\nQUIT\r\n"
    )
    answers = [
        *(rb"\*3\r\n\$9\r\nsubscribe", rb"-NOPERM 'monitor'", rb"\+OK", rb"-ERR Can't execute 'get'"),
        *(rb"\*3\r\n\$11\r\nunsubscribe", rb"\+OK", rb"\+QUEUED", rb"-NOPERM 'monitor'", rb"-EXECABORT"),
        *(rb"\*-1", rb"-WRONGPASS", rb"%7\r\n", rb">3\r\n\$9\r\nsubscribe", rb"-NOPERM 'monitor'"),
        *(rb"\+PONG", rb"\+RESET", rb"-NOPERM 'sync'", rb"\+PONG", rb"\+OK"),
    ]
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(said)
        got = b""
        while part := client.recv(65536):
            got += part
    assert re.fullmatch(rb".*?".join([*answers, rb"\r\n"]), got, re.S), got
    assert got.count(b"NOPERM") == 4
    assert b"unknown command" not in got


def test_benchmark_with_and_without_pipelining(service: tuple[int, Policy]) -> None:
    port, policy = service
    command = ("redis-benchmark", "-p", str(port), "-q", "-t", "set,get,lpush,lrange_100", "-c", "5")
    for more in (("-n", "300"), ("-n", "2000", "-P", "16")):
        done = subprocess.run((*command, *more), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "LRANGE_100" in done.stdout
        assert "Error" not in done.stdout
    policy.settle()
    assert sum(text.startswith("SET key:") for text in told(policy)) == 2300


def test_a_session_that_is_ended_reads_why(service: tuple[int, Policy]) -> None:
    port, policy = service
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        policy.end_last("the user is locked")
        assert client.recv(100) == b"-ERR the user is locked\r\n"
        assert client.recv(100) == b""
    policy.settle()


def test_a_client_that_vanishes_leaves_nothing_at_the_server(service: tuple[int, Policy]) -> None:
    port, policy = service
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 20)) as client:
        client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n" + b"x" * 1000)
        wait_for(lambda: policy.relays, what="the session")
    policy.settle()
    assert told(policy) == []
    with connect(port) as other:
        assert other.get("k") is None
        assert len(other.client_list()) == 1
