"""`--query` on nodes, label arguments, one-time codes."""

from __future__ import annotations

import pytest

from pkgs.clients.tsh.login.totp import code
from pkgs.clients.tsh.servers.nodes import parse_labels, query_test, split_commas
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import CommandLabel, Node, ServerSpec
from pkgs.common.resources.metadata import Metadata


def test_filtering_nodes() -> None:
    nodes = [
        Node(
            metadata=Metadata(name=f"11111111-2222-4333-8444-55555555555{n}", labels={"env": env}),
            spec=ServerSpec(
                hostname=f"web-{n}", cmd_labels={"load": CommandLabel(command=["x"], result=str(n))}
            ),
        )
        for n, env in enumerate(("prod", "dev"))
    ]

    def filtered(query: str) -> list[Node]:
        return list(filter(query_test(query), nodes))

    assert filtered("") == nodes
    assert filtered('labels["env"] == "prod"') == nodes[:1]
    assert filtered('labels.load == "1" && hasPrefix(name, "web")') == nodes[1:]
    with pytest.raises(InputError, match="--query: at character 1: unknown name 'lable', did you mean"):
        query_test('lable == "x"')


def test_label_arguments() -> None:
    assert parse_labels("a=1,b=two words, c=") == {"a": "1", "b": "two words", "c": ""}
    assert parse_labels('a="1,2",b=3') == {"a": "1,2", "b": "3"}
    assert parse_labels("") == {}
    assert split_commas('foo,bar,"some phrase"') == ["foo", "bar", "some phrase"]
    for bad in ("a", "=1", "a=1,b"):
        with pytest.raises(InputError, match="label"):
            parse_labels(bad)


def test_codes_of_rfc_6238() -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert code(secret, 59) == "287082"
    assert code(secret, 1111111109) == "081804"
    assert code(secret.lower().rstrip("="), 20000000000) == "353130"
