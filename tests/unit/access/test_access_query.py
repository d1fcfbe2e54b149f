"""Queries over resources: names, fields, functions, and what a query may not ask for."""

from __future__ import annotations

import pytest

from pkgs.common.access.contexts.query import compile_query
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import (
    CertAuthority,
    CommandLabel,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata

NODE = Node(
    metadata=Metadata(
        name="11111111-2222-4333-8444-555555555555",
        labels={"env": "prod", "team": "web,db", "role": "front"},
        description="the Shop",
    ),
    spec=ServerSpec(
        hostname="web-1",
        addr="10.0.0.1:22",
        public_addrs=["web.example.com"],
        cmd_labels={
            "load": CommandLabel(command=["x"], result="low"),
            "env": CommandLabel(command=["x"], result="prod"),
        },
        use_tunnel=True,
    ),
)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ('labels["env"] == "prod"', True),
        ('labels["env"] != "prod"', False),
        ("labels.env == `prod`", True),
        ('resource.metadata.labels["env"] == "prod"', True),
        ('name == "web-1" && labels["env"] == "prod"', True),
        ('name == "x" || labels["role"] == "front"', True),
        ('!exists(labels["nope"]) && exists(labels["env"])', True),
        ('!(name == "web-1")', False),
        ('hasPrefix(name, "web") && !hasPrefix(name, "db")', True),
        ('equals(name, "web-1")', True),
        ('contains(split(labels["team"], ","), "db")', True),
        ('contains(split(labels["team"], ","), "b")', False),
        ('search("WEB", "prod")', True),
        ('search("web", "nothing")', False),
        ('labels["nope"] == ""', True),
        ('exists(labels["load"]) && labels.load == "low"', True),
        ('search("shop") && search("10.0.0.1", "low")', True),
        ("resource.spec.use_tunnel", True),
        ("!resource.spec.use_tunnel", False),
        ('contains(resource.spec.public_addrs, "web.example.com")', True),
        ('resource.metadata.name == "11111111-2222-4333-8444-555555555555"', True),
        ('resource.kind == "node" && resource.spec.version == ""', True),
        ('regexp.match(name, "web-*")', True),
        ('name == "a\\"b"', False),
        ('labels["env"] == "prod" || name == "x" && name == "y"', True),
    ],
)
def test_queries(query: str, holds: bool) -> None:
    assert compile_query(query)(NODE) is holds


@pytest.mark.parametrize(
    "query",
    [
        "",
        "name",
        "name ==",
        '== "x"',
        'name == "x" &&',
        'foo == "x"',
        'labels[env] == "x"',
        "name == 'x'",
        "(",
        ")",
        "exists()",
        "equals(name)",
        'name == "x" )',
        "!" * 100 + "exists(name)",
        "x" * 5000,
        'contains(name, "x")',
    ],
)
def test_what_is_not_understood_is_said(query: str) -> None:
    with pytest.raises(InputError, match="--query"):
        compile_query(query)


def test_every_kind_can_be_asked_by_its_own_fields() -> None:
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="bob")))
    assert compile_query('resource.spec.target.user == "bob" && name == "l"', "lock")(lock)
    with pytest.raises(InputError, match="unknown name"):
        compile_query('resource.spec.hostname == "x"', "lock")


def test_private_keys_have_no_name() -> None:
    kind = str(CertAuthority.__struct_config__.tag)
    for field in (
        "resource.spec.active_keys.ssh",
        "resource.spec.active_keys",
        "resource.spec.active_keys.tls",
    ):
        with pytest.raises(InputError, match="unknown name"):
            compile_query(f'{field} == "x"', kind)


def test_what_a_function_refuses_names_the_resource() -> None:
    with pytest.raises(InputError, match=r"--query: web-1: email\.local"):
        compile_query('email.local(labels["env"]) == "x"')(NODE)
