"""A command line tool as a tree of verbs; running one imports only its own module."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, HelpWanted, Parsed, Parser, Spec
from pkgs.common.output.errors import EXIT_USAGE, fail, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Callable, Mapping

    Offer = Callable[[Parsed, str], list[str]]

COMPLETION_FLAGS = ("--install-completion", "--show-completion")


class Verb:
    """Where a verb lives: a module with `SPEC: Spec` and `run(args: Parsed) -> int`, and perhaps with
    `offer(args: Parsed, typed: str) -> list[str]`: words that the shell may complete what is typed to."""

    __slots__ = ("help", "module")

    def __init__(self, module: str, help: str) -> None:
        self.module = module
        self.help = help

    def spec(self) -> Spec:
        """The verb's arguments."""
        spec = import_module(self.module).SPEC
        assert isinstance(spec, Spec)
        return spec

    def offer(self) -> Offer | None:
        """What completes its words; None: nothing does."""
        found: Offer | None = getattr(import_module(self.module), "offer", None)
        return found

    def run(self, args: Parsed) -> int:
        """Do it; the answer is the exit status."""
        status = import_module(self.module).run(args)
        assert isinstance(status, int)
        return status


class Group:
    """Verbs under a common word: `tctl users add`. Aliases work and are not listed, nor are hidden groups."""

    __slots__ = ("aliases", "help", "hidden", "verbs")

    def __init__(
        self,
        help: str,
        verbs: Mapping[str, Verb | Group],
        aliases: Mapping[str, str] | None = None,
        *,
        hidden: bool = False,
    ) -> None:
        self.hidden = hidden
        self.help = help
        self.verbs = verbs
        self.aliases = aliases or {}


def listed(group: Group) -> dict[str, Verb | Group]:
    """The verbs and groups that help and completion show."""
    return {name: entry for name, entry in group.verbs.items() if isinstance(entry, Verb) or not entry.hidden}


class Tool:
    """A program: its name, its flags that every verb knows, its verbs."""

    __slots__ = ("common", "name", "root")

    def __init__(
        self,
        name: str,
        help: str,
        common: tuple[Flag, ...],
        verbs: Mapping[str, Verb | Group],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.common = common
        self.root = Group(help, verbs, aliases)

    def main(self, argv: list[str] | None = None) -> int:
        """Run the program; the answer is the exit status. Never lets a traceback out."""
        words = sys.argv[1:] if argv is None else argv
        if f"_{self.name.upper()}_COMPLETE" in os.environ or any(w in COMPLETION_FLAGS for w in words[:2]):
            from pkgs.common.output.help import complete

            return complete(self, words)
        debug = "-d" in words or "--debug" in words
        return run(lambda: self._dispatch(words), debug=debug)

    def _dispatch(self, words: list[str]) -> int:
        path: list[str] = []
        try:
            verb, front, rest = self._find(words, path)
            if not isinstance(verb, Verb):
                return self._group_help(path, asked=False)
            spec = verb.spec()
            parser = Parser(spec.flags, self.common, os.environ)
            # Global flags may stand on either side of the verb.
            try:
                parsed = parser.all(spec, front + rest)
            except InputError as error:
                if spec.usage_status == EXIT_USAGE:
                    raise
                fail(f"{error}; see '{' '.join([self.name, *path])} --help'")
                return spec.usage_status
            return verb.run(parsed)
        except HelpWanted:
            return self._group_help(path, asked=True)
        except InputError as error:
            if not error.hint and error.exit_status == EXIT_USAGE:
                error.hint = f"see '{' '.join([self.name, *path])} --help'"
            raise

    def _find(self, words: list[str], path: list[str]) -> tuple[Verb | Group, list[str], list[str]]:
        here: Verb | Group = self.root
        front: list[str] = []
        while isinstance(here, Group):
            index = Parser((), self.common, {}).until_word(words)
            front, words = front + words[:index], words[index:]
            if not words:
                return here, front, []
            word = here.aliases.get(words[0], words[0])
            found = here.verbs.get(word)
            if found is None:
                raise InputError(
                    f"unknown command {words[0][:60]!r}", hint=self._suggest(here, words[0], path)
                )
            path.append(word)
            here, words = found, words[1:]
        return here, front, words

    def _suggest(self, group: Group, word: str, path: list[str]) -> str:
        from difflib import get_close_matches

        close = get_close_matches(word, [*group.verbs, *group.aliases], n=1)
        if close:
            return f"did you mean '{' '.join([self.name, *path, close[0]])}'?"
        return f"see '{' '.join([self.name, *path])} --help'"

    def _group_help(self, path: list[str], *, asked: bool) -> int:
        from pkgs.common.output.help import help_text

        text = help_text(self, path)
        if asked:
            sys.stdout.write(text)
            return 0
        fail(f"a command is missing after '{' '.join([self.name, *path])}'")
        sys.stderr.write("\n" + text)
        return EXIT_USAGE
