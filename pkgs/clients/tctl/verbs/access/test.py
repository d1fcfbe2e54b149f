"""`tctl access test`."""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

from pkgs.clients.tctl.verbs.access import testreport
from pkgs.clients.tctl.verbs.access.policyfiles import Documents, files_in, is_document, read_text
from pkgs.common.access.policytests.reading import parse
from pkgs.common.access.policytests.run import Outcome
from pkgs.common.access.policytests.run import run as run_suite
from pkgs.common.access.policytests.suite import Suite, build
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, fail
from pkgs.common.output.progress import Progress

SPEC = Spec(
    "Run tests of policy: files that say who shall be allowed what, decided by the same code as in a cluster,"
    " without one. Of a folder, every YAML and JSON file that is no resource document is a file of tests."
    " The exit status is 0 when all pass, 1 when some fail, 2 when a file is malformed. The files are"
    " described in docs/policy-tests.md.",
    Flag("format", "Output format", default="text", choices=("text", "json", "junit"), metavar="FORMAT"),
    Flag("output", "Write the format to this file, and text to standard output", metavar="FILE"),
    Flag("filter", "Only tests whose name matches, for example '*root*'", metavar="GLOB"),
    Flag("verbose", "Also show why passing tests pass", short="v", is_bool=True),
    usage="FILE|DIR...",
    least=1,
    most=1000,
)
MAX_SHOWN_ERRORS = 20
MAX_OUTCOMES = 200_000


def run(args: Parsed) -> int:
    """Read everything, then run everything, then tell."""
    suites = _suites(args.words)
    if suites is None:
        return EXIT_USAGE
    began = time.perf_counter()
    outcomes = _outcomes(suites, args.text("filter"))
    _tell(args, outcomes, time.perf_counter() - began)
    return EXIT_OK if all(outcome.passed for outcome in outcomes) else EXIT_FAILED


def _suites(words: list[str]) -> list[Suite] | None:
    """The tests of all files; None: some are malformed, which is said."""
    documents = Documents()
    suites: list[Suite] = []
    errors: list[InputError] = []
    with Progress("Reading") as progress:
        for path in _test_files(words):
            progress.update(str(path))
            try:
                parsed = parse(read_text(path), str(path))
                suites.append(build(parsed, documents.wanted_by(parsed)))
            except InputError as error:
                errors.append(error)
    for malformed in errors[:MAX_SHOWN_ERRORS]:
        fail(str(malformed))
    if len(errors) > MAX_SHOWN_ERRORS:
        fail(f"{len(errors) - MAX_SHOWN_ERRORS} more files are malformed")
    return None if errors else suites


def _test_files(words: list[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if not path.exists():
            raise InputError(f"there is no file or folder {word}")
        tests = [file for file in files_in(path) if not path.is_dir() or not is_document(file)]
        if not tests:
            raise InputError(
                f"there are no policy tests in {word}", hint="a file of tests has a list of `tests`"
            )
        found |= dict.fromkeys(tests)
    return list(found)


def _outcomes(suites: list[Suite], pattern: str) -> list[Outcome]:
    found: list[Outcome] = []
    with Progress("Testing") as progress:
        for suite in suites:
            chosen = suite
            if pattern:
                cases = tuple(case for case in suite.cases if fnmatchcase(case.name, pattern))
                chosen = Suite(suite.source, cases)
            for outcome in run_suite(chosen, time.perf_counter):
                found.append(outcome)
                progress.update(str(len(found)))
            if len(found) > MAX_OUTCOMES:
                raise InputError(f"more than {MAX_OUTCOMES} tests at once", hint="name fewer files")
    if not found:
        raise InputError(
            f"--filter: no test is called {pattern[:80]!r}", hint="for example --filter='*root*'"
        )
    return found


def _tell(args: Parsed, outcomes: list[Outcome], seconds: float) -> None:
    format, output = args.text("format"), args.text("output")
    if format == "text":
        made = "".join(testreport.text(outcomes, verbose=args.on("verbose")))
        made += testreport.summary(outcomes, seconds)
    else:
        made = testreport.json(outcomes) if format == "json" else testreport.junit(outcomes, seconds)
    if not output:
        sys.stdout.write(made)
        return
    Path(output).write_text(made, encoding="utf-8")
    sys.stdout.writelines(testreport.text(outcomes, verbose=args.on("verbose"), failures_only=True))
    sys.stdout.write(testreport.summary(outcomes, seconds))
