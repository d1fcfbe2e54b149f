"""Many servers: lines that can't be forged, names that can't leave the folder, children that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.many.fanout import Job, run_jobs
from pkgs.clients.tsh.many.limits import MAX_LINE_BYTES
from pkgs.clients.tsh.many.lines import Lines
from pkgs.clients.tsh.many.logs import open_log, plain_names
from pkgs.clients.tsh.verbs import ssh
from pkgs.common.errors import InputError
from tests.harness.wait import wait_for
from tests.unit.tsh.test_tsh_openssh import args

ROOT = Path(__file__).resolve().parents[3]


def sh(name: str, script: str) -> Job:
    return Job(name, ["/bin/sh", "-c", script])


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=80)))
def test_a64_whatever_a_server_sends_is_labelled_and_inert(chunks: list[bytes]) -> None:
    lines = Lines("[web]")
    text = "".join(map(lines.feed, chunks)) + lines.end()
    for line in text.split("\n")[:-1]:
        assert line.startswith("[web] ")
        assert line.replace("\t", "").isprintable()
    data = b"".join(chunks)
    assert text.count("\n") == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def test_a64_a_line_that_goes_back_over_another_is_shown_as_such() -> None:
    assert Lines("[web]").feed(b"ok\r[db] gone\x1b[2K\n") == "[web] ok\\r[db] gone\\x1b[2K\n"


def test_a66_a_line_without_end_is_printed_in_pieces() -> None:
    lines = Lines("[web]")
    text = "".join(lines.feed(b"x" * 1000) for _ in range(50))
    assert text.startswith("[web] " + "x" * MAX_LINE_BYTES + "\n[web] ")
    assert (text + lines.end()).count("x") == 50_000
    assert Lines("[web]").feed(b"y" * MAX_LINE_BYTES) == "[web] " + "y" * MAX_LINE_BYTES + "\n"


def test_a56_no_name_leaves_the_folder_or_takes_anothers_file() -> None:
    servers = [
        ("web", "id1"),
        ("../x", "id2"),
        ("WEB", "id3"),
        ("db", "id4"),
        ("id4", "id5"),
        (".ssh", "id6"),
    ]
    assert plain_names(servers) == ["id1", "id2", "id3", "db", "id5", "id6"]
    assert plain_names([("a/b", "id7"), ("n\nx", "id8"), ("", "id9")]) == ["id7", "id8", "id9"]


def test_a56_no_log_is_written_through_a_link_or_outside(tmp_path: Path) -> None:
    (tmp_path / "web.stdout").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        open_log(str(tmp_path), "web", "stdout")
    with pytest.raises(InputError):
        open_log(str(tmp_path), "../web", "stdout")
    assert not (tmp_path / "elsewhere").exists()


def test_all_run_and_the_first_failure_is_the_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = [sh("a", "echo one; echo err >&2"), sh("b", "printf half; exit 4"), sh("c", "exit 9")]
    assert run_jobs(jobs, parallel=2, log_dir=str(tmp_path / "logs")) == 4
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["[a] one", "[b] half"]
    assert err.splitlines() == ["[a] err", "2 of 3 servers failed: b (exit status 4), c (exit status 9)"]
    written = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert written == {
        "a.stdout": "one\n", "a.stderr": "err\n", "b.stdout": "half", "b.stderr": "", "c.stdout": "",
        "c.stderr": "",
    }  # fmt: skip
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs" / "a.stdout").stat().st_mode & 0o777 == 0o600


def test_never_more_at_once_than_asked(tmp_path: Path) -> None:
    # Each takes the one place there is; a second one beside it would not get it.
    place = tmp_path / "place"
    jobs = [sh(name, f"mkdir {place} && rmdir {place}") for name in "abcdefgh"]
    assert run_jobs(jobs, parallel=1, log_dir="") == 0


def test_a_process_left_behind_with_the_pipes_is_not_waited_for(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert run_jobs([sh("a", f"sleep 300 & echo $! > {pid_file}")], parallel=1, log_dir="") == 0
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_child_outlives_an_interrupted_run(tmp_path: Path, number: signal.Signals) -> None:
    script = "trap '' TERM; sleep 300 & echo $$ > $0.pid; wait"
    body = (
        "import sys; from pkgs.clients.tsh.many import fanout; from pkgs.common.output.errors import run\n"
        f"jobs = [fanout.Job(n, ['/bin/sh', '-c', {script!r}, sys.argv[1] + n]) for n in ('a', 'b')]\n"
        "sys.exit(run(lambda: fanout.run_jobs(jobs, parallel=2, log_dir='')))"
    )
    files = [tmp_path / "a.pid", tmp_path / "b.pid"]
    with subprocess.Popen([sys.executable, "-c", body, f"{tmp_path}/"], cwd=ROOT) as process:
        try:
            wait_for(
                lambda: all(file.exists() and file.read_text().endswith("\n") for file in files),
                what="both children to run",
            )
            process.send_signal(number)
            assert process.wait(20) == 130
        finally:
            process.terminate()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


@pytest.mark.parametrize("words", [["-t"], ["-N"], ["-f"], ["-L", "1:h:2"], ["-R", "1:h:2"], ["-D", "1"]])
def test_what_only_one_server_can_have_is_refused_for_many(words: list[str]) -> None:
    with pytest.raises(InputError, match="is for one server"):
        ssh._check_many(args(*words, "env=prod", "true"))


def test_the_short_flags_people_type_reach_openssh() -> None:
    given_args = args("-TqvC", "-E", "log", "h")
    assert ssh._words(given_args) == ["-T", "-q", "-v", "-C", "-E", "log"]
    with pytest.raises(InputError, match="exclude"):
        ssh._words(args("-tT", "h"))
