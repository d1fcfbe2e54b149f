"""Folders of documents, plans and diffs without a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgs.clients.tctl.applying import limits
from pkgs.clients.tctl.applying.diffs import unified
from pkgs.clients.tctl.applying.files import read
from pkgs.clients.tctl.applying.plan import Step
from pkgs.common.errors import InputError, LimitExceededError, NotFoundError
from pkgs.common.resources.documents.places import Placed
from pkgs.common.resources.kinds import Github, Resource, Token, TokenSpec
from pkgs.common.resources.kinds.connectors import GithubSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec

ROLE = "kind: role\nmetadata: {{name: {}}}\n"


def load(path: Path) -> list[Placed]:
    return read(str(path), lambda text, source: text, lambda document: None)


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_all_documents_below_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    put(tmp_path, "b.yaml", ROLE.format("b1") + "---\n" + ROLE.format("b2"))
    put(tmp_path, "a/z.yml", ROLE.format("a"))
    put(tmp_path, "a/deeper/y.JSON", '{"kind": "role", "metadata": {"name": "json"}}')
    put(tmp_path, "README.md", "no document")
    put(tmp_path, ".git/config.yaml", "no document")
    put(tmp_path, ".hidden.yaml", "no document")
    found = load(tmp_path)
    assert [(d.resource.name, d.where.removeprefix(f"{tmp_path}/")) for d in found] == [
        ("b1", "b.yaml:1"),
        ("b2", "b.yaml:4"),
        ("a", "a/z.yml:1"),
        ("json", "a/deeper/y.JSON"),
    ]
    (single,) = load(tmp_path / "a/z.yml")
    assert single.resource.name == "a"


class TestLinks:
    def test_a_link_within_the_folder_is_followed(self, tmp_path: Path) -> None:
        # As configuration is mounted into containers.
        put(tmp_path, "conf/..2026/role.yaml", ROLE.format("a"))
        (tmp_path / "conf/..data").symlink_to("..2026")
        (tmp_path / "conf/role.yaml").symlink_to("..data/role.yaml")
        assert [d.resource.name for d in load(tmp_path / "conf")] == ["a"]

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        put(tmp_path, "outside/secret.yaml", ROLE.format("a"))
        (tmp_path / "conf").mkdir()
        for name, target in (("x.yaml", "../outside/secret.yaml"), ("dir", "../outside")):
            link = tmp_path / "conf" / name
            link.symlink_to(target)
            with pytest.raises(InputError, match="leads out of"):
                load(tmp_path / "conf")
            link.unlink()
        for target in ("nowhere.yaml", "x.yaml"):
            link = tmp_path / "conf" / "x.yaml"
            link.symlink_to(target)
            with pytest.raises(InputError, match="leads nowhere"):
                load(tmp_path / "conf")
            link.unlink()

    def test_a_link_that_was_named_itself_is_followed(self, tmp_path: Path) -> None:
        put(tmp_path, "2026/role.yaml", ROLE.format("a"))
        (tmp_path / "role.yaml").symlink_to("2026/role.yaml")
        assert [d.resource.name for d in load(tmp_path / "role.yaml")] == ["a"]

    def test_what_is_no_file_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        with pytest.raises(InputError, match="not a regular file"):
            load(tmp_path)


class TestBounds:
    def test_files_sizes_and_depth(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for index in range(4):
            put(tmp_path, f"{index}.yaml", ROLE.format(f"r{index}"))
        for name, value in (
            ("MAX_FILES", 3),
            ("MAX_ENTRIES", 3),
            ("MAX_FILE_BYTES", 10),
            ("MAX_TOTAL_BYTES", 100),
            ("MAX_RESOURCES", 3),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(limits, name, value)
                with pytest.raises(LimitExceededError):
                    load(tmp_path)
        put(tmp_path, "/".join(["d"] * 40) + "/x.yaml", ROLE.format("deep"))
        with pytest.raises(LimitExceededError, match="deeper than 32"):
            load(tmp_path)

    def test_nothing_to_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no resources found; a folder is searched for \*\.yaml"):
            load(tmp_path)
        with pytest.raises(NotFoundError):
            load(tmp_path / "none")
        (tmp_path / "x.yaml").write_bytes(b"kind: \xff")
        with pytest.raises(InputError, match=r"x\.yaml: not UTF-8 at byte 6"):
            load(tmp_path)


def test_every_error_is_told_up_to_a_bound(tmp_path: Path) -> None:
    for index in range(30):
        put(tmp_path, f"{index:02}.yaml", "kind: rolle\n")
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "30 errors; nothing was changed"
    assert lines[1] == f"{tmp_path}/00.yaml:1: kind: unknown kind 'rolle'; did you mean role?"
    assert lines[-1] == "... and 10 more"


def test_the_same_resource_twice(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", ROLE.format("x"))
    put(tmp_path, "b.yaml", ROLE.format("y") + "---\n" + ROLE.format("x"))
    with pytest.raises(
        InputError, match=r"b\.yaml:4: role/x is given twice; the other one is at .*a\.yaml:1"
    ):
        load(tmp_path)


class TestDiffs:
    def role(self, *logins: str, description: str = "") -> Role:
        return Role(
            metadata=Metadata(name="r", description=description, revision=str(len(logins))),
            spec=RoleSpec(allow=Conditions(logins=list(logins))),
        )

    def diff(self, before: Resource | None, after: Resource | None, *secrets: str) -> str:
        resource = after or before
        assert resource is not None
        return unified(Step("updated", resource, before, after, "f.yaml:3", secrets))

    def test_only_what_differs(self) -> None:
        text = self.diff(self.role("a", "b"), self.role("a", "b", "c"))
        assert text.startswith("--- role/r (cluster)\n+++ role/r (f.yaml:3)\n@@ ")
        assert [line for line in text.splitlines()[3:] if line[0] in "+-"] == ["+    - c"]
        assert self.diff(self.role("a"), self.role("a")) == ""

    def test_made_and_gone(self) -> None:
        text = self.diff(None, self.role("a"))
        assert all(line.startswith("+") for line in text.splitlines()[3:])
        text = self.diff(self.role("a"), None)
        assert all(line.startswith("-") for line in text.splitlines()[3:])

    def test_secrets_and_tokens_are_masked(self) -> None:
        github = Github(metadata=Metadata(name="g"), spec=GithubSpec(client_id="a", client_secret="hush"))
        text = self.diff(github, github, "client_secret")
        assert "hush" not in text
        assert '+  client_secret: "(a secret, given anew)"' in text
        token = Token(metadata=Metadata(name="0123456789abcdef"), spec=TokenSpec(roles=["Node"]))
        text = self.diff(None, token)
        assert "0123456789" not in text and "************cdef" in text

    def test_a_large_one_is_told_in_numbers(self) -> None:
        many = self.role(*(str(i) for i in range(6000)))
        text = self.diff(many, self.role("a"))
        assert text.splitlines()[-1].endswith("too many for a diff @@")

    def test_a64_hostile_text_is_inert(self) -> None:
        hostile = "\x1b]52;c;ZXZpbA==\x07\u202egnp\n+++ fake\r\x9b2J"
        text = self.diff(self.role("a"), self.role("a", hostile, description=hostile))
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "\n+++ fake" not in text
