"""Help texts and shell completion, made with Typer from the same data that the parser uses.

Only `--help`, completion and the generated reference import this."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pkgs.common.output.argv import Flag
from pkgs.common.output.tool import Group, Tool, Verb, listed


def help_text(tool: Tool, path: list[str]) -> str:
    """What `tool path... --help` prints."""
    command = typer.main.get_command(_app(tool, completion=not path))
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
        _app(tool, completion=True)(args=words, prog_name=tool.name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _app(tool: Tool, *, completion: bool) -> typer.Typer:
    return _group_app(tool.root, tool.common, completion=completion)


def _group_app(group: Group, common: tuple[Flag, ...], *, completion: bool) -> typer.Typer:
    class Lazy(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(listed(group))

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            found = group.verbs.get(group.aliases.get(cmd_name, cmd_name))
            if found is None:
                return None
            made = _verb_app(found) if isinstance(found, Verb) else _group_app(found, (), completion=False)
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
    app.callback(help=group.help)(_function(common))
    return app


def _verb_app(verb: Verb) -> typer.Typer:
    spec = verb.spec()
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    usage = f"[FLAGS] {spec.usage}".rstrip()
    app.command(
        help=spec.help, options_metavar=usage, context_settings={"help_option_names": ["-h", "--help"]}
    )(_function(spec.flags))
    return app


def _function(flags: tuple[Flag, ...]) -> Any:
    """A function with the signature Typer reads the options from; it is never run."""

    def verb(**_: object) -> None:
        raise AssertionError("arguments are parsed by argv.Parser")

    verb.__signature__ = inspect.Signature([_parameter(flag) for flag in flags])  # type: ignore[attr-defined]
    verb.__annotations__ = {}
    return verb


def _parameter(flag: Flag) -> inspect.Parameter:
    names = [f"--{flag.name}" + (f"/--no-{flag.name}" if flag.is_bool and flag.default == "true" else "")]
    if flag.short:
        names.append(f"-{flag.short}")
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
        # Never a word of the language, such as `with`: only the names of the option are shown.
        f"flag_{flag.name.replace('-', '_')}",
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )


def _completer(choices: tuple[str, ...]) -> Any:
    def complete_choice(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete_choice
