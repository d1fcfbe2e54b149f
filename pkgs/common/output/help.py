"""Help texts and shell completion, made with Typer from the same data that the parser uses.

Only `--help`, completion and the generated reference import this."""

from __future__ import annotations

import inspect
import os
import re
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pkgs.common.output.argv import Flag, Parsed, Parser
from pkgs.common.output.limits import OFFER_S
from pkgs.common.output.tool import Group, Tool, Verb, listed

if TYPE_CHECKING:
    from pkgs.common.output.tool import Offer

_WORD = re.compile(r"[A-Za-z0-9_.@:/+][A-Za-z0-9_.@:/+-]*")
"""What every shell takes for a word and nothing more. Names come from other people."""


def help_text(tool: Tool, path: list[str]) -> str:
    """What `tool path... --help` prints."""
    app = _group_app(tool.root, tool.common, completion=not path)
    command = typer.main.get_command(app)
    context = command.make_context(tool.name, [], resilient_parsing=True)
    for word in path:
        assert isinstance(command, TyperGroup)
        found = command.get_command(context, word)
        assert found is not None
        command = found
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    text = command.get_help(context).rstrip() + "\n"
    if path:
        text += f"\nGlobal flags: see '{tool.name} --help'.\n"
    return text


def complete(tool: Tool, words: list[str]) -> int:
    """Answer the shell's question, or install or show the completion script."""
    try:
        app = _group_app(tool.root, tool.common, completion=True, everywhere=tool.common)
        app(args=words, prog_name=tool.name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _group_app(
    group: Group, flags: tuple[Flag, ...], *, completion: bool, everywhere: tuple[Flag, ...] | None = None
) -> typer.Typer:
    """`everywhere`, for completion: flags that may follow any verb, which words are offered by as well."""

    class Lazy(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(listed(group))

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            found = group.verbs.get(group.aliases.get(cmd_name, cmd_name))
            if found is None:
                return None
            if isinstance(found, Verb):
                made = _verb_app(found, everywhere)
            else:
                made = _group_app(found, (), completion=False, everywhere=everywhere)
            command = typer.main.get_command(made)
            command.name = cmd_name
            return command

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            # From the table, so that no verb's module is imported for it.
            with formatter.section("Commands"):
                formatter.write_dl([(name, verb.help) for name, verb in listed(group).items()])

    app = typer.Typer(
        cls=Lazy, add_completion=completion, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback(help=group.help)(_function(_parameters(flags)))
    return app


def _verb_app(verb: Verb, everywhere: tuple[Flag, ...] | None) -> typer.Typer:
    spec = verb.spec()
    parameters = _parameters(spec.flags)
    if everywhere is not None:
        shorts = {flag.short for flag in spec.flags}
        names = {flag.name for flag in spec.flags}
        others = tuple(flag for flag in everywhere if flag.name not in names)
        parameters += _parameters(others, taken=shorts)
        if (offer := verb.offer()) is not None:
            parameters.append(_words(offer, spec.flags, everywhere, many=spec.most > 1))
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    usage = f"[FLAGS] {spec.usage}".rstrip()
    app.command(
        help=spec.help, options_metavar=usage, context_settings={"help_option_names": ["-h", "--help"]}
    )(_function(parameters))
    return app


def _function(parameters: list[inspect.Parameter]) -> Any:
    """A function with the signature Typer reads the options from; it is never run."""

    def verb(**_: object) -> None:
        raise AssertionError("arguments are parsed by argv.Parser")

    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {}
    return verb


def _words(
    offer: Offer, flags: tuple[Flag, ...], everywhere: tuple[Flag, ...], *, many: bool
) -> inspect.Parameter:
    """The words of a verb, completed by what it offers."""

    def complete_word(ctx: Any, incomplete: str) -> list[str]:
        args = _given(ctx, flags, everywhere)
        words = _in_time(lambda: offer(args, incomplete))
        return [word for word in words if word.startswith(incomplete) and _WORD.fullmatch(word)]

    kind: Any = list[str] if many else str
    return inspect.Parameter(
        "words",
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if many else "",
        annotation=Annotated[kind, typer.Argument(autocompletion=complete_word)],
    )


def _given(ctx: Any, flags: tuple[Flag, ...], everywhere: tuple[Flag, ...]) -> Parsed:
    """The flags that are on the line so far, wherever they stand, and defaults."""
    parsed = Parser(flags, everywhere, os.environ).parsed
    contexts = [ctx]
    while contexts[-1].parent is not None:
        contexts.append(contexts[-1].parent)
    for context in reversed(contexts):
        for flag in (*everywhere, *flags):
            source = context.get_parameter_source(_name(flag))
            if source is not None and source.name == "COMMANDLINE":
                parsed.values[flag.name] = context.params[_name(flag)]
    return parsed


def _in_time(ask: Callable[[], list[str]]) -> list[str]:
    """What it answers within a moment; else, or when it fails, nothing: somebody is typing."""
    answer: list[str] = []

    def asking() -> None:
        try:
            answer.extend(ask())
        except Exception:
            # Not logged in, no network, a fault of ours: the verb itself says what it is.
            return

    # A thread, for nothing else ends a name's resolution early. It ends with the process.
    thread = threading.Thread(target=asking, daemon=True)
    thread.start()
    thread.join(OFFER_S)
    return list(answer)


def _parameters(flags: tuple[Flag, ...], taken: Collection[str] = ()) -> list[inspect.Parameter]:
    """`taken`: letters that are other flags'."""
    return [_parameter(flag, "" if flag.short in taken else flag.short) for flag in flags]


def _name(flag: Flag) -> str:
    # Never a word of the language, such as `with`: only the names of the option are shown.
    return f"flag_{flag.name.replace('-', '_')}"


def _parameter(flag: Flag, short: str) -> inspect.Parameter:
    names = [f"--{flag.name}" + (f"/--no-{flag.name}" if flag.is_bool and flag.default == "true" else "")]
    if short:
        names.append(f"-{short}")
    text = flag.help + (f" [{'|'.join(flag.choices)}]" if flag.choices else "")
    option = typer.Option(
        *names,
        help=text,
        metavar=None if flag.is_bool else flag.metavar,
        envvar=flag.env or None,
        show_default=bool(flag.default) and not flag.is_bool,
        autocompletion=_completer(flag.choices) if flag.choices else None,
    )
    kind: Any = bool if flag.is_bool else list[str] if flag.is_list else str
    default: Any = flag.default == "true" if flag.is_bool else [] if flag.is_list else flag.default
    return inspect.Parameter(
        _name(flag),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )


def _completer(choices: tuple[str, ...]) -> Any:
    def complete_choice(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete_choice
