"""Proxy templates: the file, what matches, what is replaced, what is never replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.main import TOOL
from pkgs.clients.tsh.templates import destination
from pkgs.clients.tsh.templates.config import parse
from pkgs.clients.tsh.templates.limits import MAX_TEMPLATES
from pkgs.clients.tsh.verbs import ssh
from pkgs.common.errors import AccessError, InputError
from pkgs.common.output.argv import Parsed, Parser

REFERENCE = r"""
aliases: {l: tsh login}
add_headers: [{proxy: "*.corp.example", headers: {X-Edge-Token: abc}}]
proxy_templates:
- template: '^(\w+)\.(\w+):([0-9]+)$'
  proxy: "$2.eu.example.com:443"
  cluster: "$2"
  host: "$1:$3"
- template: '^(?P<name>\w+):'
  query: 'labels["env"] == "${name}"'
  search: "never"
"""


def args(*words: str) -> Parsed:
    return Parser(ssh.SPEC.flags, TOOL.common, {}).all(ssh.SPEC, list(words))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TELEPORT_PROXY", "TELEPORT_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TELEPORT_HOME", str(tmp_path))
    monkeypatch.setenv("TELEPORT_GLOBAL_TSH_CONFIG", str(tmp_path / "global.yaml"))
    path = tmp_path / "config" / "config.yaml"
    path.parent.mkdir()
    path.write_text(REFERENCE)
    return path


def test_the_first_template_that_matches_wins(file: Path) -> None:
    there = destination.find(args(), "web.dev", "22")
    assert (there.host, there.port, there.proxy, there.cluster) == (
        "web", "22", "dev.eu.example.com:443", "dev"
    )  # fmt: skip
    assert there.place == f"{file}: proxy_templates[0]"
    there = destination.find(args(), "web", "22")
    assert (there.query, there.search, there.host) == ('labels["env"] == "web"', "", "web")
    found = args("-p", "7")
    destination.find(found, "a.b", "7").aim(found)
    assert (found.text("proxy"), found.text("cluster"), found.text("port")) == (
        "b.eu.example.com:443", "b", "7"
    )  # fmt: skip


def test_a_miss_fails_only_where_a_template_is_asked_for(file: Path) -> None:
    there = destination.find(args(), "a.b.c", "22")
    assert (there.host, there.proxy, there.place) == ("a.b.c", "", "")
    for host in ("a.b.c", "", 'x"||true||"', "env=prod", "a" * 400):
        with pytest.raises(InputError, match="no proxy template matches"):
            destination.find(args("-J", "{{proxy}}"), host, "22")
    file.unlink()
    with pytest.raises(InputError, match=r"read from .*config\.yaml and .*global\.yaml"):
        destination.find(args("-J", "{{proxy}}"), "web.dev", "22")
    assert destination.find(args(), "web.dev", "22").host == "web.dev"


def test_what_was_given_is_never_replaced(file: Path) -> None:
    assert destination.find(args("-J", "hub"), "web.dev", "22").route() == ("hub", "dev", "22")
    for words in (("--proxy=hub",), ("--proxy=hub", "-J", "{{proxy}}")):
        found = args(*words, "--cluster=mine")
        there = destination.find(found, "web.dev", "22")
        there.aim(found)
        assert (found.text("proxy"), found.text("cluster"), there.host) == ("hub", "mine", "web")
    assert destination.find(args("-J", "none"), "web.dev", "22").host == "web.dev"
    with pytest.raises(InputError, match="different proxies"):
        destination.find(args("-J", "hub", "--proxy=other"), "web.dev", "22")
    destination.find(args("-J", "hub:443", "--proxy=hub"), "web.dev", "22")


def test_the_machines_templates_come_after_the_users(file: Path) -> None:
    (file.parents[1] / "global.yaml").write_text("proxy_templates: [{template: '.', host: everything}]")
    assert destination.find(args(), "web.dev", "22").host == "web"
    assert destination.find(args(), "a.b.c", "22").host == "everything"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("proxy_template: []", "f:1: proxy_template"),
        ("proxy_templates:\n- template: a\n  hots: b", "f:3: proxy_templates[0].hots"),
        ("proxy_templates:\n- host: b", "template"),
        ("proxy_templates:\n- template: a", "f:2: proxy_templates[0]: it lacks"),
        ("proxy_templates:\n- template: '('\n  host: b", "f:2: proxy_templates[0].template"),
        ("proxy_templates:\n- template: '(?=a)'\n  host: b", "f:2: proxy_templates[0].template"),
        ("proxy_templates:\n- template: '(a)'\n  host: $1x", "f:3: proxy_templates[0].host"),
        ("proxy_templates:\n- template: a\n  host: $1", "f:3: proxy_templates[0].host"),
        ("proxy_templates:\n- template: a\n  host: a$", "write $$"),
        ("proxy_templates:\n- template: a\n  query: " + "a" * 1001, "f:3: proxy_templates[0].query"),
        ("proxy_templates: 1", "proxy_templates"),
    ],
)
def test_mistakes_are_told_with_file_and_path(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, "f")
    assert said in str(caught.value)


def test_the_number_of_templates_is_bounded() -> None:
    one = "- {template: a, host: b}\n"
    assert len(parse("proxy_templates:\n" + one * MAX_TEMPLATES, "f")) == MAX_TEMPLATES
    with pytest.raises(InputError, match="at most 256"):
        parse("proxy_templates:\n" + one * (MAX_TEMPLATES + 1), "f")


@pytest.mark.parametrize(
    "field", ["host: '$1;id'", "host: -oProxyCommand", "host: 'a:99999'", "host: 'a:²'", "proxy: 'u@h:1'"]
)
def test_what_comes_out_must_be_a_host_and_a_proxy(field: str) -> None:
    (template,) = parse(f"proxy_templates: [{{template: '^(.*):', {field}}}]", "f")
    with pytest.raises(InputError, match=r"f: proxy_templates\[0\]: for 'web:22'"):
        template.apply("web:22")


def test_dollar_signs_and_missing_captures() -> None:
    (template,) = parse("proxy_templates: [{template: '(a)?(b)', query: '$$-$1-${2}x-$0'}]", "f")
    assert template.apply("bc") == {"query": "$--bx-b"}


@pytest.mark.fuzz
@given(st.text(alphabet="$ {}()[]^.*+?\\w1a:", max_size=30), st.text(alphabet="${}1a:.x-", max_size=20))
def test_any_template_is_taken_or_refused(pattern: str, host: str) -> None:
    try:
        (template,) = parse(f"proxy_templates: [{{template: {pattern!r}, host: {host!r}}}]", "f")
        fields = template.apply("a1.a:1")
    except AccessError:
        return
    assert fields is None or fields["host"].replace(".", "").replace("-", "").isalnum() or not fields["host"]
