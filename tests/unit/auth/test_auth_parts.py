"""Small pure parts of the Auth Service."""

from __future__ import annotations

import pytest

from pkgs.auth.accounts.passwords import check_new
from pkgs.auth.chunks import chunked
from pkgs.auth.gate import bare_address, client_address
from pkgs.auth.registry import build_registry
from pkgs.auth.resources.search import matcher
from pkgs.auth.state.bootstrap import system_role
from pkgs.auth.state.store import key_of
from pkgs.auth.whole import Whole
from pkgs.common.api import (
    access,
    accesslists,
    audit,
    bots,
    databases,
    encryption,
    headless,
    join,
    login,
    openssh,
    recordings,
    requests,
    resources,
    semaphores,
    sessions,
    system,
)
from pkgs.common.errors import InputError, LimitExceededError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.resources.kinds import CommandLabel, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.secrets import masked
from pkgs.common.rpc.calls import Caller, Request, StreamRequest, UploadRequest


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("203.0.113.7:50112", "203.0.113.7"),
        ("203.0.113.7", "203.0.113.7"),
        ("[2001:db8::1]:22", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", ""),
    ],
)
def test_an_address_loses_its_port(text: str, bare: str) -> None:
    assert bare_address(text) == bare


def test_only_a_proxy_is_believed_about_an_address() -> None:
    def host(role: SystemRole) -> Caller:
        identity = Identity(kind=PeerKind.HOST, name="h", cluster="c", system_roles=(role,))
        return Caller(identity=identity, remote_addr="10.0.0.1")

    assert client_address(host(SystemRole.PROXY), "203.0.113.7:1") == "203.0.113.7"
    assert client_address(host(SystemRole.NODE), "203.0.113.7:1") == "10.0.0.1"
    assert client_address(Caller(identity=None, remote_addr="10.0.0.2"), "203.0.113.7") == "10.0.0.2"


@pytest.mark.parametrize("token", ["", "a", "abcd", "0123456789abcdef0123456789abcdef", "x" * 250])
def test_a_masked_token_shows_at_most_a_quarter(token: str) -> None:
    shown = masked(token)
    assert len(shown.lstrip("*")) <= len(token) / 4
    assert len(shown) <= 128


def test_password_length() -> None:
    for good in ("x" * 12, "x" * 128, "päss wörd 🙂 yes"):
        check_new(good)
    for bad in ("", "x" * 11, "x" * 129):
        with pytest.raises(InputError):
            check_new(bad)


def test_system_roles_in_any_spelling() -> None:
    assert system_role("node") is SystemRole.NODE
    assert system_role(" WindowsDesktop ") is SystemRole.WINDOWS_DESKTOP
    assert system_role("windows_desktop") is SystemRole.WINDOWS_DESKTOP
    with pytest.raises(InputError, match="known are"):
        system_role("no\x1bde")


def test_keys_cannot_be_confused() -> None:
    assert key_of("role", "a/b") != key_of("role", "b", "a")
    assert key_of("role", "../user/x").startswith("/resource/role/")
    assert "secret-token" not in key_of("token", "secret-token")


def test_filters_of_a_listing() -> None:
    node = Node(
        metadata=Metadata(name="id-1", labels={"env": "prod", "dyn": "old"}),
        spec=ServerSpec(
            hostname="Web-1",
            addr="10.0.0.7:3022",
            cmd_labels={"dyn": CommandLabel(command=["x"], result="new")},
        ),
    )
    assert matcher({}, []) is None

    def matches(labels: dict[str, str], *words: str) -> bool:
        test = matcher(labels, list(words))
        assert test is not None
        return test(node)

    assert matches({"env": "prod", "dyn": "new"})
    assert not matches({"dyn": "old"})
    assert matches({"env": "*"})
    assert not matches({"gone": "*"})
    assert matches({}, "web", "10.0.0", "PROD")
    assert not matches({}, "web", "qa")
    with pytest.raises(LimitExceededError):
        matcher({}, ["x"] * 100)


def test_every_call_of_the_api_has_a_handler() -> None:
    """A request type that is added to the API and forgotten here would be refused to everybody."""

    class Anything:
        def __getattr__(self, name: str) -> object:
            return Anything()

        def __call__(self, *args: object) -> object:
            return self

    registry = build_registry(Anything(), Anything(), lambda *_: None, Whole())  # type: ignore[arg-type]
    calls = {
        value.__name__
        for module in (
            databases,
            *(access, accesslists, system, login, join, bots, resources, audit, recordings, requests),
            databases,
            encryption,
            headless,
            sessions,
            semaphores,
            openssh,
        )
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Request | StreamRequest | UploadRequest)
        and value not in (Request, StreamRequest, UploadRequest)
    }
    assert set(registry.names()) == calls


def test_long_answers_are_cut_by_count_and_by_size() -> None:
    assert [len(part) for part in chunked(list(range(120)))] == [50, 50, 20]
    assert list(chunked([])) == []
    heavy = ["x" * 200_000] * 7 + ["y"] * 3
    parts = list(chunked(heavy))
    assert [item for part in parts for item in part] == heavy
    assert all(sum(map(len, part)) <= 600_000 for part in parts)
    assert list(chunked(["z" * 2_000_000])) == [["z" * 2_000_000]]
