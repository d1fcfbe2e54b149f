"""Writes docs/reference from what the programs hold themselves: verbs, flags, the fields of the file.

`python scripts/reference.py` writes; a test compares, so that the pages stay current.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pkgs.clients.tctl.main import TOOL as TCTL
from pkgs.clients.teleport.main import TOOL as TELEPORT
from pkgs.clients.tsh.main import TOOL as TSH
from pkgs.common.output.argv import Flag
from pkgs.common.output.tool import Group, Tool, Verb, listed
from pkgs.common.runtime.config.file import WITHOUT_EFFECT, File
from pkgs.common.runtime.flags import flag_parser
from pkgs.common.runtime.services import SERVICES, SUMMARIES, Service

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
_NOTE: Final = "<!-- Made by `make docs`; change the program, not this page. -->\n"


def pages() -> dict[str, str]:
    """File name and content of every page."""
    made = {f"{tool.name}.md": tool_page(tool) for tool in (TELEPORT, TSH, TCTL)}
    made |= {f"teleport-{name}.md": service_page(name) for name in SERVICES}
    made["teleport-yaml.md"] = config_page()
    return made


def tool_page(tool: Tool) -> str:
    """Every verb of a tool."""
    lines = [
        _NOTE,
        f"# {tool.name}\n",
        f"{tool.root.help}\n",
        "Flags that every command knows:\n",
        *_flags(tool.common),
    ]
    for path, verb in _verbs(tool.root, (tool.name,)):
        spec = verb.spec()
        lines += ["", f"## {' '.join(path)}\n", f"{spec.help}\n"]
        lines += ["```", f"{' '.join(path)} [FLAGS] {spec.usage}".rstrip(), "```"]
        if spec.flags:
            lines += ["", *_flags(spec.flags)]
    return "\n".join(lines) + "\n"


def _verbs(group: Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Verb]]:
    for name, entry in listed(group).items():
        if isinstance(entry, Verb):
            yield (*path, name), entry
        else:
            yield from _verbs(entry, (*path, name))


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    lines = ["| Flag | Meaning | Default |", "|---|---|---|"]
    for flag in flags:
        name = f"`--{flag.name}`" if flag.is_bool else f"`--{flag.name}={flag.metavar}`"
        shown = f"`-{flag.short}`, {name}" if flag.short else name
        notes = [_cell(flag.help)]
        if choices := [choice for choice in flag.choices if choice]:
            notes.append(f"({', '.join(choices)})")
        if flag.is_list:
            notes.append("(repeatable)" if "repeatable" not in flag.help else "")
        if flag.env:
            notes.append(f"[`{flag.env}`]")
        default = (
            f"`{flag.default}`" if flag.default and flag.default != "true" else "on" if flag.default else ""
        )
        lines.append(f"| {_cell(shown)} | {' '.join(filter(None, notes))} | {default} |")
    return lines


def service_page(service: Service) -> str:
    """The flags of a service's program."""
    lines = [_NOTE, f"# teleport-{service}\n", f"{SUMMARIES[service]}\n"]
    lines += [
        "Flags win over the file. With `--data-dir` and no `-c`, no file is read.\n",
        "| Flag | Meaning |",
        "|---|---|",
    ]
    for action in flag_parser(service)._actions:
        value = f"={action.metavar or action.dest.upper()}" if action.nargs is None else ""
        names = ", ".join(
            f"`{name}{value if name.startswith('--') else ''}`" for name in action.option_strings
        )
        lines.append(f"| {_cell(names)} | {_cell(action.help or '')} |")
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """Every field of the file with its default."""
    lines = [
        _NOTE,
        "# teleport.yaml\n",
        "Unknown keys, wrong types and values that make no sense are refused with one line: file, line,"
        " dotted path, what was found, what is allowed. Durations are written `30s`, `5m`, `1h30m`.\n",
    ]
    docs = _field_docs(inspect.getmodule(File))
    for field in msgspec.structs.fields(File):
        if field.name not in docs:
            lines += ["", f"## {field.name}\n", "Not part of this version: only `enabled: no` is accepted."]
        elif field.name == "version":
            lines += ["", "## version\n", f"{docs['version']} Default: `v1`."]
        else:
            lines += [
                "",
                f"## {field.name}\n",
                f"{docs[field.name]}\n",
                "| Field | Meaning | Default |",
                "|---|---|---|",
            ]
            lines += _section(field.type, "", field.name)
    return "\n".join(lines) + "\n"


def _section(section: type[msgspec.Struct], prefix: str, top: str) -> list[str]:
    docs = _field_docs(inspect.getmodule(section), section.__name__)
    lines = []
    for field in msgspec.structs.fields(section):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            lines += _section(inner, f"{prefix}{field.name}.", top)
            continue
        name = f"{prefix}{field.name}"
        text = docs.get(field.name, "")
        if f"{top}.{name}" in WITHOUT_EFFECT:
            text += " **No effect in this version.**"
        lines.append(f"| `{name}` | {_cell(text)} | {_default(field)} |")
        arguments = getattr(inner, "__args__", ())
        for argument in arguments:
            if isinstance(argument, type) and issubclass(argument, msgspec.Struct):
                lines += _section(argument, f"{name}[].", top)
    return lines


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return ""
    if field.default is msgspec.NODEFAULT:
        return "required"
    if isinstance(field.default, bool):
        return "`yes`" if field.default else "`no`"
    return f"`{field.default}`" if field.default not in ("", None) else ""


def _field_docs(module: ModuleType | None, name: str = "File") -> dict[str, str]:
    """The line of documentation below each field of a class."""
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    found: dict[str, str] = {}
    for node in tree.body:
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("%%", "%")


def main() -> int:
    """Writes every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
