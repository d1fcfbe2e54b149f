"""What the pages say is there: links, paths, commands and their flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.clients.tctl.main import TOOL as TCTL
from pkgs.clients.teleport.main import TOOL as TELEPORT
from pkgs.clients.tsh.main import TOOL as TSH
from pkgs.common.output.argv import Parser
from pkgs.common.output.tool import Tool, Verb
from pkgs.common.runtime.flags import flag_parser
from pkgs.common.runtime.services import SERVICES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GUIDES = [page for page in PAGES if page.parent.name not in ("adr", "reference")]
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
TOOLS = {tool.name: tool for tool in (TSH, TCTL, TELEPORT)}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in {slug(text) for text in re.findall(r"^#+ (.*)$", target.read_text(), re.M)}, link


def test_every_page_can_be_found() -> None:
    """Each guide from the README, each decision from the list of them, under its own title."""
    readme = (ROOT / "README.md").read_text()
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/reference/*.md"), ROOT / "docs/adr/README.md"]:
        assert f"({name_of(page)})" in readme, page
    titles = [page.read_text().splitlines()[0].removeprefix("# ") for page in DECISIONS]
    expected = [f"- [{title}]({page.name})" for title, page in zip(titles, DECISIONS, strict=True)]
    listed = (ROOT / "docs" / "adr" / "README.md").read_text().splitlines()
    assert [line for line in listed if line.startswith("- ")] == expected


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_paths_of_the_house_exist(page: Path) -> None:
    for path in re.findall(r"`((?:pkgs|common|docs|tests|scripts|bin)/[\w./*-]+)", page.read_text()):
        where = ROOT / "pkgs" if path.startswith("common/") else ROOT
        assert any(where.glob(path.rstrip("/"))), path


PROGRAMS = {*TOOLS, *(f"teleport-{service}" for service in SERVICES)}


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of our programs that a page shows, word by word."""
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            # A drawing is indented, a command is not.
            first, *rest = _without_comment(line).split(" ")
            if first.removeprefix("bin/") in PROGRAMS:
                shown = re.split(r"&&|;|\||>|&$", " ".join((first, *rest)))[0]
                yield shlex.split(shown.removeprefix("bin/"))


def _without_comment(line: str) -> str:
    # Quoted words may hold the signs that cut a line; nothing in them is needed here.
    return re.sub(r"'[^']*'|<[^>]*>", "QUOTED", re.sub(r"(^|\s)#.*", "", line))


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands_that_are_shown_exist(page: Path) -> None:
    for name, *words in commands(page):
        if name in TOOLS:
            _check(TOOLS[name], words)
        else:
            service = next(s for s in SERVICES if name == f"teleport-{s}")
            flag_parser(service).parse_args(words)


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands_that_are_named_exist(page: Path) -> None:
    for text in re.findall(r"`((?:tsh|tctl|teleport) [a-z][^`]*)`", page.read_text()):
        name, *words = _without_comment(text).split()
        verb, _, _ = TOOLS[name]._find(words, [])
        assert isinstance(verb, Verb), text


def _check(tool: Tool, words: list[str]) -> None:
    verb, front, rest = tool._find(words, [])
    assert isinstance(verb, Verb), words
    spec = verb.spec()
    Parser(spec.flags, tool.common, {}).all(spec, front + rest)


def test_the_pages_show_commands() -> None:
    found = [words[0] for page in GUIDES for words in commands(page)]
    assert len(found) > 30
    assert {*TOOLS, "teleport-ssh"} <= set(found)
