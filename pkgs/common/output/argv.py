"""Command-line arguments: flags as data and one small parser.

The verbs people run all day (`tsh ls`, `tsh ssh`, `tsh proxy ssh`) cannot afford the general command
line library, which takes longer to import than they take to run. So flags are declared here as data and
parsed here; the same declaration makes `--help` and shell completion with that library (`help.py`).
"""

from __future__ import annotations

from pkgs.common.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Mapping

Value = str | bool | list[str]


class Flag:
    """One option: `--name`, perhaps `-short`; takes a value unless `is_bool`."""

    __slots__ = ("choices", "default", "env", "help", "is_bool", "is_list", "metavar", "name", "short")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        short: str = "",
        default: str = "",
        is_bool: bool = False,
        is_list: bool = False,
        choices: tuple[str, ...] = (),
        env: str = "",
        metavar: str = "TEXT",
    ) -> None:
        self.name = name
        self.help = help
        self.short = short
        self.default = default
        self.is_bool = is_bool
        self.is_list = is_list
        self.choices = choices
        self.env = env
        self.metavar = metavar


class Spec:
    """A verb's arguments. `least` and `most` bound the positional words. With `command_after` the words
    after that many positional ones are kept as they are (a remote command with its own flags). `usage_status`
    is the exit status of a wrong use, for a verb to which 2 means something else."""

    __slots__ = ("command_after", "flags", "help", "least", "most", "usage", "usage_status")

    def __init__(
        self,
        help: str,
        *flags: Flag,
        usage: str = "",
        least: int = 0,
        most: int = 0,
        command_after: int | None = None,
        usage_status: int = 2,
    ) -> None:
        self.usage_status = usage_status
        self.help = help
        self.flags = flags
        self.usage = usage
        self.least = least
        self.most = most
        self.command_after = command_after


class Parsed:
    """What the user gave: flags with their defaults filled in, positional words, a remote command."""

    __slots__ = ("command", "given", "twice", "values", "words")

    def __init__(self, values: dict[str, Value]) -> None:
        self.values = values
        self.words: list[str] = []
        self.command: list[str] = []
        self.given: set[str] = set()
        self.twice: set[str] = set()
        """Flags given more than once, such as `-tt`."""

    def text(self, name: str) -> str:
        """Value of a flag that takes one text."""
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def on(self, name: str) -> bool:
        """Whether a flag without value is set."""
        value = self.values[name]
        assert isinstance(value, bool)
        return value

    def texts(self, name: str) -> list[str]:
        """Values of a repeatable flag."""
        value = self.values[name]
        assert isinstance(value, list)
        return value

    def whole(self, name: str, *, least: int = 0) -> int:
        """Value of a flag that takes a whole number; empty: 0."""
        text = self.text(name)
        if not text:
            return 0
        if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) < least:
            raise InputError(f"--{name}: {text[:40]!r} is no whole number of at least {least}")
        return int(text)


class HelpWanted(Exception):
    """The words hold `--help`."""


class Parser:
    """One pass over the words, for one verb and the tool's global flags."""

    def __init__(self, flags: tuple[Flag, ...], common: tuple[Flag, ...], environ: Mapping[str, str]) -> None:
        # A verb's own flags win over the tool's.
        every = (*common, *flags)
        self._longs = {"--" + f.name: f for f in every}
        self._shorts = {f.short: f for f in every if f.short}
        self.parsed = Parsed({f.name: _default(f, environ) for f in every})

    def until_word(self, argv: list[str]) -> int:
        """Take flags from the front; returns the index of the first word that is none."""
        index = 0
        while index < len(argv) and argv[index].startswith("-") and argv[index] not in ("-", "--"):
            index = self._flag(argv, index)
        return index

    def all(self, spec: Spec, argv: list[str]) -> Parsed:
        """Take everything; InputError names the first word that is wrong."""
        parsed = self.parsed
        index = 0
        while index < len(argv):
            word = argv[index]
            if word == "--":
                rest = argv[index + 1 :]
                if spec.command_after is not None and len(parsed.words) >= spec.command_after:
                    parsed.command = rest
                else:
                    parsed.words += rest
                break
            if word.startswith("-") and word != "-":
                index = self._flag(argv, index)
                continue
            if spec.command_after is not None and len(parsed.words) == spec.command_after:
                parsed.command = argv[index:]
                break
            parsed.words.append(word)
            index += 1
        if len(parsed.words) > spec.most:
            raise InputError(f"unexpected argument {parsed.words[spec.most][:60]!r}")
        if len(parsed.words) < spec.least:
            raise InputError(f"missing argument, expected: {spec.usage}")
        return parsed

    def _flag(self, argv: list[str], index: int) -> int:
        word = argv[index]
        if word == "--help" or (word == "-h" and "h" not in self._shorts):
            raise HelpWanted
        return self._long(argv, index) if word.startswith("--") else self._short(argv, index)

    def _long(self, argv: list[str], index: int) -> int:
        name, given, value = argv[index].partition("=")
        flag = self._longs.get(name)
        if flag is None and name.startswith("--no-") and not given:
            negated = self._longs.get("--" + name[5:])
            if negated is not None and negated.is_bool:
                return self._set(negated, False, index + 1)
        if flag is None:
            raise InputError(f"unknown flag {name[:60]}")
        if flag.is_bool:
            if given:
                raise InputError(f"{name} takes no value")
            return self._set(flag, True, index + 1)
        if given:
            return self._set(flag, value, index + 1)
        return self._set(flag, _following(argv, index, name), index + 2)

    def _short(self, argv: list[str], index: int) -> int:
        letters = argv[index][1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._shorts.get(letter)
            if flag is None:
                raise InputError(f"unknown flag -{letter}")
            if flag.is_bool:
                self._set(flag, True, index)
            elif letters:
                return self._set(flag, letters.removeprefix("="), index + 1)
            else:
                return self._set(flag, _following(argv, index, f"-{letter}"), index + 2)
        return index + 1

    def _set(self, flag: Flag, value: str | bool, index: int) -> int:
        if flag.choices and value not in flag.choices:
            raise InputError(
                f"--{flag.name}: {str(value)[:60]!r} is not one of {', '.join(filter(None, flag.choices))}"
            )
        held = self.parsed.values[flag.name]
        if isinstance(held, list):
            held.append(str(value))
        elif not flag.is_bool and flag.name in self.parsed.given and value != held:
            # Dropping one in silence would do half of what was asked: a lock of two users, of one.
            raise InputError(f"--{flag.name} is given twice, with different values")
        else:
            self.parsed.values[flag.name] = value
        if flag.name in self.parsed.given:
            self.parsed.twice.add(flag.name)
        self.parsed.given.add(flag.name)
        return index


def _default(flag: Flag, environ: Mapping[str, str]) -> Value:
    from_env = environ.get(flag.env, "") if flag.env else ""
    if flag.is_bool:
        return from_env.lower() in ("1", "true", "yes") if from_env else flag.default == "true"
    return [] if flag.is_list else from_env or flag.default


def _following(argv: list[str], index: int, name: str) -> str:
    if index + 1 >= len(argv):
        raise InputError(f"{name} needs a value")
    return argv[index + 1]
