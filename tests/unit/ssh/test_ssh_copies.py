"""Commands that copy files, however they are written; and those that only look a little like it."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.ssh.sessions.copies import copies_with, is_copy
from pkgs.common.ssh.sessions.messages import OpenSession

ENDS = {
    "scp -t /x": "scp",
    "scp -f /x": "scp",
    "scp -v -r -p -d -t -- /x": "scp",
    "scp -rpt .": "scp",
    "/usr/lib/openssh/sftp-server": "sftp",
    "sftp-server -R": "sftp",
    "internal-sftp": "sftp",
    "rsync --server -vlogDtpre.iLsfxCIvu . /x": "rsync",
    "rsync --server --sender -e.iLsfx . /x": "rsync",
    "git-upload-pack '/srv/x.git'": "git",
    "git-receive-pack x": "git",
    "git upload-archive x": "git",
    "git -C /srv receive-pack x": "git",
}
TRICKS = [
    "/usr/bin/{}",
    "../../usr/bin//{}",
    "env {}",
    "A=b {}",
    "exec {}",
    "nice -n 5 {}",
    "sudo -u root {}",
    "true; {}",
    "true&&{}",
    "cd /tmp\n{}",
    "({})",
    "`{}`",
    "$({})",
    "{{ {}; }}",
    "{} | cat",
    "{}>/tmp/x",
    "\\{}",
    "xargs {} < list",
    "env -i /usr/bin/{}",
]


@pytest.mark.parametrize("trick", ["{}", *TRICKS])
@pytest.mark.parametrize(("command", "program"), ENDS.items())
def test_a_copy_is_seen_through_what_is_around_it(command: str, program: str, trick: str) -> None:
    assert copies_with(trick.format(command)) == program
    for shell in ("sh -c {}", "bash -lc {}", "su root -c {}", "eval {}"):
        assert copies_with(shell.format(shlex.quote(trick.format(command)))) == program


@pytest.mark.parametrize(
    "command",
    ['s"c"p -t /x', "'scp' -t /x", "s\\cp -t /x", "s''cp -t /x", "scp '-t' /x", "scp -\\t /x",
     "sc\\\np -t /x", "scp${IFS}-t${IFS}/x", "{scp,-t,/x}", "scp\t-t\t/x", "scp\x0b-t /x"],
)  # fmt: skip
def test_quoting_hides_nothing(command: str) -> None:
    assert copies_with(command) == "scp"


@pytest.mark.parametrize(
    "command",
    ["", " ", "scp", "ls -t", "ls -t scp", "scp a b:", "scp -r a b:", "rsync -a x y", "git status",
     "git log -t", "tar -tf x", "cat scp.txt", "echo server", "upload-pack", "./scpx -t",
     "which scp sftp rsync git"],
)  # fmt: skip
def test_other_commands_are_none(command: str) -> None:
    assert copies_with(command) is None


_WRAP = st.sampled_from(TRICKS)


@pytest.mark.fuzz
@given(st.sampled_from(sorted(ENDS)), st.lists(_WRAP, max_size=4), st.integers(0, 3))
def test_wrapping_never_hides_a_copy(command: str, wraps: list[str], shells: int) -> None:
    program = ENDS[command]
    for wrap in wraps:
        command = wrap.format(command)
    for _ in range(shells):
        command = f"sh -c {shlex.quote(command)}"
    assert copies_with(command) == program


@pytest.mark.fuzz
@given(st.text(max_size=300))
def test_any_text_has_an_answer(text: str) -> None:
    assert copies_with(text) in (None, "scp", "sftp", "rsync", "git")


def test_many_names_take_no_longer_than_many_words() -> None:
    assert copies_with("git scp rsync " * 1200) is None


def test_what_cannot_be_read_in_full_counts_as_a_copy() -> None:
    cut = OpenSession(channel=1, kind="exec", command="true " + "#" * 16_000, exact=False)
    assert is_copy(cut) == "unknown"
    assert is_copy(OpenSession(channel=1, kind="exec", command="true")) == ""
    assert is_copy(OpenSession(channel=1, kind="shell")) == ""
    assert is_copy(OpenSession(channel=1, kind="subsystem", command="sftp")) == "sftp"
    assert is_copy(OpenSession(channel=1, kind="subsystem", command="other")) == ""
