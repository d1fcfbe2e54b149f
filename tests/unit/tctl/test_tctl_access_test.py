"""`tctl access test` as it is run: which files are tests, exit statuses, and its three forms of output."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from pkgs.clients.tctl.main import main
from pkgs.clients.tctl.verbs.access import policyfiles
from pkgs.clients.tctl.verbs.access import test as verb
from pkgs.common.access.explaining.actions import USAGE
from pkgs.common.access.policytests.document import (
    DatabaseEntry,
    NodeEntry,
    PolicyFile,
    PolicyTest,
    Resources,
    SessionEntry,
    UserEntry,
)
from pkgs.common.access.policytests.reading import parse

ROOT = Path(__file__).parents[3]
ROLE = "kind: role\nversion: v7\nmetadata: {name: dev}\n" + (
    "spec: {allow: {logins: [root], node_labels: {'*': '*'}}}\n"
)
TESTS = """
roles: [roles]
users: {alice: {roles: [dev]}}
resources: {nodes: {web1: {}}}
tests:
  - {name: root, user: alice, action: ssh root@web1, expect: allowed}
"""
FAILING = TESTS + "  - {name: 'no <root> & \"none\"', user: alice, action: ssh root@web1, expect: denied}\n"

JUNIT = {
    "testsuites": {"name", "tests", "failures", "errors", "time", "disabled"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time", "assertions", "status"},
    "failure": {"message", "type"},
}  # fmt: skip
"""The elements that are written, with attributes that the common schema (Jenkins, junit-10) knows."""

INSIDE = {"testsuites": ["testsuite"], "testsuite": ["testcase"], "testcase": ["failure"], "failure": []}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "dev.yaml").write_text(ROLE)
    (tmp_path / "access.yaml").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_shows_a_file_that_is_one_and_names_every_field() -> None:
    page = (ROOT / "docs" / "policy-tests.md").read_text()
    (shown,) = [block for block in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S) if "tests:" in block]
    assert len(parse(shown, "page").places) == 2
    for struct in (PolicyFile, PolicyTest, Resources, UserEntry, DatabaseEntry, NodeEntry, SessionEntry):
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"`{field.encode_name}\b", page), field.encode_name
    for usage in USAGE.values():
        assert usage.split("[")[0].strip() in page


def test_our_own_policy_tests() -> None:
    """The presets and the rules of decisions, in the format that people use."""
    assert main(["access", "test", str(ROOT / "tests" / "policy")]) == 0


def test_a_folder_holds_tests_and_documents(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.json").write_text('[{"kind": "user", "version": "v2", "metadata": {"name": "x"}}]')
    (folder / "flow.yaml").write_text("{kind: user, version: v2, metadata: {name: y}}")
    (folder / ".hidden.yaml").write_text("nonsense: [")
    (folder / "README.md").write_text("no test")
    assert main(["access", "test", "."]) == 0
    assert capsys.readouterr().out.startswith("ok   access.yaml:6 root\n1 test: 1 passed, 0 failed (")


def test_a_failure_and_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.yaml").write_text(FAILING)
    assert main(["access", "test", "access.yaml"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[1:-1] == [
        'FAIL access.yaml:7 no <root> & "none"',
        "       expected denied, found allowed",
        "       allowed: alice, ssh root@web1",
        "         role dev: allow.logins and allow.node_labels",
        "       roles of alice: dev",
        "         role dev allows the labels and the login root",
    ]
    assert told[-1].startswith("2 tests: 1 passed, 1 failed (")
    assert main(["access", "test", "access.yaml", "-v"]) == 1
    assert capsys.readouterr().out.splitlines()[1].strip() == "role dev: allow.logins and allow.node_labels"


def test_only_what_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.yaml").write_text(FAILING)
    assert main(["access", "test", ".", "--filter=ro*"]) == 0
    assert "1 test: 1 passed" in capsys.readouterr().out
    assert main(["access", "test", ".", "--filter=Root"]) == 2
    assert "no test is called 'Root'" in capsys.readouterr().err


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.yaml").write_text(FAILING)
    assert main(["access", "test", ".", "--format=json"]) == 1
    passed, failed = json.loads(capsys.readouterr().out)
    assert passed["passed"] and passed["reasons"] == ["role dev: allow.logins and allow.node_labels"]
    assert "explanation" not in passed
    assert (failed["file"], failed["line"], failed["expect"]) == ("access.yaml", 7, "denied")
    assert failed["problems"] == ["expected denied, found allowed"]
    assert failed["explanation"]["findings"] == [
        {"role": "dev", "effect": "allows", "text": "allows the labels and the login root"}
    ]


def test_junit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.yaml").write_text(FAILING)
    (folder / "more.yaml").write_text(TESTS)
    assert main(["access", "test", ".", "--format=junit", "--output=out.xml"]) == 1
    assert capsys.readouterr().out.startswith("FAIL access.yaml:7")
    root = ElementTree.fromstring((folder / "out.xml").read_text())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= JUNIT[element.tag]
        assert {child.tag for child in element} <= set(INSIDE[element.tag])
        if "time" in JUNIT[element.tag]:
            assert float(element.attrib["time"]) >= 0
    first, second = root
    assert (first.attrib["name"], first.attrib["tests"], first.attrib["failures"]) == (
        "access.yaml",
        "2",
        "1",
    )
    assert (second.attrib["name"], second.attrib["failures"]) == ("more.yaml", "0")
    failure = first[1][0]
    assert first[1].attrib["name"] == 'no <root> & "none"'
    assert failure.attrib["message"] == "expected denied, found allowed"
    assert failure.text is not None and "allowed: alice, ssh root@web1" in failure.text


@pytest.mark.parametrize("format", ["text", "json", "junit"])
def test_a64_whatever_a_file_holds_is_shown_inert(
    folder: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    """Escapes, a new line that poses as a passed test, text that ends an element or a CDATA section."""
    name = "\x1b]0;x\x07 \nok   access.yaml:1 root\r ]]>\u202e</failure>\ufffe\u0085"
    case = {"name": name, "user": name, "roles": ["dev"], "action": "ssh root@web1", "expect": "denied"}
    users = {name: {"roles": []}}
    nodes = {"web1": {"labels": {name: name}}}
    text = {"roles": ["roles"], "users": users, "resources": {"nodes": nodes}, "tests": [case, case]}
    (folder / "access.yaml").write_text(json.dumps(text))
    assert main(["access", "test", "access.yaml", f"--format={format}"]) == 1
    shown = capsys.readouterr().out
    assert not {char for char in shown if not char.isprintable()} - {"\n"}
    if format == "text":
        assert [line[:4] for line in shown.splitlines() if line[:1] != " "] == ["FAIL", "FAIL", "2 te"]
    elif format == "junit":
        assert len(list(ElementTree.fromstring(shown).iter("failure"))) == 2
    else:
        assert json.loads(shown)[0]["name"] == name


def test_a64_an_error_about_a_file_is_inert_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.yaml").write_text('tests: [{"\\e[31m": x}]')
    assert main(["access", "test", "."]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_all_malformed_files_are_named_and_nothing_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text("test: []")
    (folder / "b.yaml").write_bytes(b"\xff")
    assert main(["access", "test", "."]) == 2
    found = capsys.readouterr()
    assert not found.out
    assert "a.yaml:1: test: unknown key 'test'; did you mean tests?" in found.err
    assert "b.yaml: not UTF-8 at byte 0" in found.err


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("roles: [nowhere.yaml]", "roles[0]: there is no file or folder nowhere.yaml"),
        ("roles: ['*.txt']", "roles[0]: '*.txt' matches no file"),
        ("roles: ['**x/[']", "roles[0]: '**x/[' is no path"),
        ("roles: ['a\\0b']", "roles[0]: there is no file"),
        (f"roles: ['{'x' * 5000}']", "is no path"),
        ("roles: [users.yaml]", "users.yaml holds a user; documents of other kinds go into `files`"),
        ("files: [roles/dev.yaml]\nroles: [roles]", ""),
        ("roles: ['ro*/*.yaml', roles, roles/dev.yaml]", ""),
        ("roles: [broken.yaml]", "broken.yaml:1: kind: missing"),
    ],
)
def test_paths_that_a_file_names(
    folder: Path, capsys: pytest.CaptureFixture[str], named: str, said: str
) -> None:
    (folder / "users.yaml").write_text("{kind: user, version: v2, metadata: {name: x}}")
    (folder / "broken.yaml").write_text("x: y")
    (folder / "access.yaml").write_text(TESTS.replace("roles: [roles]", named.replace("\\0", "\\x00")))
    assert main(["access", "test", "access.yaml"]) == (2 if said else 0)
    assert said in capsys.readouterr().err


def test_what_is_no_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access", "test", "nowhere"]) == 2
    assert "there is no file or folder nowhere" in capsys.readouterr().err
    assert main(["access", "test", "roles"]) == 2
    assert "there are no policy tests in roles" in capsys.readouterr().err
    assert main(["access", "test", "roles/dev.yaml"]) == 2
    assert "unknown key 'kind'" in capsys.readouterr().err
    assert main(["access", "test"]) == 2
    (folder / "loop").symlink_to("loop")
    assert main(["access", "test", "loop"]) == 2


def test_a_pipe_is_refused_and_not_waited_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "pipe.yaml")
    for path in (".", "pipe.yaml"):
        assert main(["access", "test", path]) == 2
        assert "pipe.yaml: not a regular file" in capsys.readouterr().err


def test_sizes_and_numbers_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policyfiles, "MAX_FILES", 1)
    assert main(["access", "test", "access.yaml"]) == 0
    (folder / "roles" / "more.yaml").write_text(ROLE.replace("dev", "more"))
    assert main(["access", "test", "access.yaml"]) == 2
    monkeypatch.setattr(policyfiles, "MAX_FILES", 10)
    monkeypatch.setattr(policyfiles, "MAX_FILE_BYTES", 10)
    assert main(["access", "test", "access.yaml"]) == 2
    monkeypatch.setattr(policyfiles, "MAX_FILE_BYTES", 10_000)
    monkeypatch.setattr(verb, "MAX_OUTCOMES", 0)
    assert main(["access", "test", "access.yaml"]) == 2


def test_a_file_that_many_name_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = policyfiles.load_documents
    monkeypatch.setattr(
        policyfiles, "load_documents", lambda text, source: read.append(source) or load(text, source)
    )
    (folder / "more.yaml").write_text(TESTS)
    assert main(["access", "test", "."]) == 0
    assert read == ["roles/dev.yaml"]
