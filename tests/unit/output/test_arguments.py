"""Parsing of arguments, the tree of verbs, exit statuses."""

from __future__ import annotations

import sys
import types

import pytest

from pkgs.common.errors import DeniedError, InputError
from pkgs.common.output import errors
from pkgs.common.output.argv import Flag, HelpWanted, Parsed, Parser, Spec
from pkgs.common.output.tool import Group, Tool, Verb

COMMON = (
    Flag("proxy", "p", env="X_PROXY"),
    Flag("login", "l", short="l"),
    Flag("debug", "d", short="d", is_bool=True),
)
SSH = Spec(
    "Connect.",
    Flag("port", "p", short="p"),
    Flag("forward", "f", short="L", is_list=True),
    Flag("tty", "t", short="t", is_bool=True),
    Flag("relogin", "r", is_bool=True, default="true"),
    Flag("format", "f", short="f", default="text", choices=("text", "json")),
    usage="HOST [COMMAND]",
    least=1,
    most=1,
    command_after=1,
)  # fmt: skip


def parse(*words: str, spec: Spec = SSH, **environ: str) -> Parsed:
    return Parser(spec.flags, COMMON, environ).all(spec, list(words))


def test_flags_in_every_form() -> None:
    parsed = parse("--port=1", "-L", "a", "-Lb", "-td", "--no-relogin", "-f=json", "host")
    assert parsed.text("port") == "1"
    assert parsed.texts("forward") == ["a", "b"]
    assert parsed.on("tty") and parsed.on("debug")
    assert not parsed.on("relogin")
    assert parsed.text("format") == "json"
    assert parsed.words == ["host"]


@pytest.mark.parametrize("words", [["-p", "1", "--port=2"], ["--login", "root", "-l", "daemon"]])
def test_a_flag_with_one_value_takes_no_second_one(words: list[str]) -> None:
    """The first would be dropped in silence: `tctl lock --user=a --user=b` would leave a free."""
    with pytest.raises(InputError, match="given twice"):
        parse(*words, "host")
    assert parse("-p", "1", "--port=1", "-d", "-d", "host").text("port") == "1"


def test_the_words_of_a_remote_command_are_not_ours() -> None:
    parsed = parse("-p", "1", "host", "-t", "ls", "-la", "--port=9", "--", "x")
    assert parsed.on("tty") and parsed.text("port") == "1"
    assert parsed.command == ["ls", "-la", "--port=9", "--", "x"]
    assert parse("host", "--", "-x").command == ["-x"]
    assert parse("--", "-host").words == ["-host"]


def test_environment_is_behind_flags_and_before_defaults() -> None:
    assert parse("h", X_PROXY="env").text("proxy") == "env"
    assert parse("h", "--proxy=flag", X_PROXY="env").text("proxy") == "flag"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nonsense", "h"], "unknown flag --nonsense"),
        (["-z", "h"], "unknown flag -z"),
        (["--port"], "needs a value"),
        (["-p"], "needs a value"),
        (["--tty=1", "h"], "takes no value"),
        (["-f", "xml", "h"], "not one of text, json"),
        ([], "missing argument"),
    ],
)
def test_wrong_usage_names_the_word(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse(*words)


def test_too_many_words() -> None:
    with pytest.raises(InputError, match="unexpected argument 'b'"):
        parse("a", "b", spec=Spec("x", most=1))


def test_help_wins() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(HelpWanted):
            parse("h", word)


def test_whole_numbers() -> None:
    assert parse("h").whole("port") == 0
    assert parse("-p", "22", "h").whole("port") == 22
    for bad in ("x", "-1", "1.5", "9" * 20, "²"):
        with pytest.raises(InputError, match="--port"):
            parse(f"--port={bad}", "h").whole("port")
    with pytest.raises(InputError, match="at least 1"):
        parse("-p", "0", "h").whole("port", least=1)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    module = types.ModuleType("fake_verb")

    def run(args: Parsed) -> int:
        if args.words == ["deny"]:
            raise DeniedError("no\x1b[2J", detail="secret detail")
        if args.words == ["bug"]:
            raise RuntimeError("a bug with a secret in it")
        if args.words == ["ctrl-c"]:
            raise KeyboardInterrupt
        if args.words == ["os"]:
            raise FileNotFoundError(2, "No such file", "/nowhere")
        print(args.text("proxy"), args.on("debug"), args.words)
        return 7 if args.words == ["seven"] else 0

    module.SPEC = Spec("Do it.", Flag("x", "an x", choices=("a", "b")), usage="[WORD]", most=1)  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_verb", module)
    return Tool(
        "tool",
        "A tool.",
        COMMON,
        {"do": Verb("fake_verb", "Do it"), "grp": Group("A group.", {"do": Verb("fake_verb", "Do")})},
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["do"], 0),
        (["do", "seven"], 7),
        (["do", "deny"], 1),
        (["do", "bug"], 1),
        (["do", "os"], 1),
        (["do", "ctrl-c"], 130),
        (["do", "a", "b"], 2),
        (["--nonsense", "do"], 2),
        (["nonsense"], 2),
        ([], 2),
        (["grp"], 2),
        (["grp", "do"], 0),
        (["grp", "nonsense"], 2),
        (["--help"], 0),
        (["grp", "--help"], 0),
        (["grp", "do", "--help"], 0),
    ],
)
def test_exit_statuses(tool: Tool, words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(words) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if status in (1, 2):
        assert captured.err.startswith("ERROR: ")
    assert "\x1b" not in captured.err
    assert "secret" not in captured.err


def test_global_flags_on_either_side(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["--proxy=a", "do"]) == 0
    assert tool.main(["-d", "grp", "--proxy", "a", "do"]) == 0
    assert tool.main(["do", "--proxy=a", "-d"]) == 0
    assert capsys.readouterr().out == "a False []\na True []\na True []\n"


def test_debug_shows_the_details(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["do", "-d", "deny"]) == 1
    err = capsys.readouterr().err
    assert "secret detail" in err
    assert "Traceback" in err


def test_a_typing_error_gets_a_suggestion(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["grpp"])
    assert "did you mean 'tool grp'?" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    def body() -> int:
        raise BrokenPipeError

    saved = errors.os.dup2
    try:
        errors.os.dup2 = lambda *_: 0  # type: ignore[assignment]
        assert errors.run(body) == 0
    finally:
        errors.os.dup2 = saved


def test_long_messages_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    errors.fail("x" * 10_000)
    assert len(capsys.readouterr().err) < 4100


def test_what_may_be_written_is_listed_without_the_empty_choice() -> None:
    spec = Spec("Find.", Flag("kind", "k", choices=("", "node", "db")))
    with pytest.raises(InputError, match=r"'foo' is not one of node, db$"):
        parse("--kind=foo", spec=spec)
    assert parse(spec=spec).text("kind") == ""
