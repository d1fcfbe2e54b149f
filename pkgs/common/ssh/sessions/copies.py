"""Which commands copy files: the far ends that scp, sftp, rsync and git start. Pure.

Who may copy no files is refused these. That is a filter on the text of a command, and it errs on the side
of refusing: the name of such a program anywhere in it counts, however it is quoted and whoever runs it, when
what makes it the far end follows. It is no border: whoever has a shell can have it print a file (ADR 0086).
"""

from __future__ import annotations

import re
from typing import Literal

from pkgs.common.ssh.sessions.messages import OpenSession

Program = Literal["scp", "sftp", "rsync", "git"]

_HIDDEN = re.compile(r"\\\n|['\"\\]")
"""What a shell removes from a word: line ends that are escaped, quotes, escapes."""
_BETWEEN = re.compile(r"[\s;&|()<>{}$`=,!]+")
_SFTP_SERVERS = frozenset({"sftp-server", "internal-sftp"})
_GIT = frozenset({"upload-pack", "receive-pack", "upload-archive"})
_GIT_PROGRAMS = frozenset(f"git-{verb}" for verb in _GIT)
_SCP_END = re.compile(r"-[^-]*[tf]")
"""-t takes files, -f gives them; alone or among other letters."""


def copies_with(command: str) -> Program | None:
    """What a command copies files with; None: with nothing that is known. In time linear in its length."""
    words = [word.rpartition("/")[2] or word for word in _BETWEEN.split(_HIDDEN.sub("", command)) if word]
    first: dict[str, int] = {}
    for at, word in enumerate(words):
        first.setdefault(word, at)

    def behind(program: str) -> list[str]:
        """Everything after its first mention, which includes what comes after any other."""
        return words[first[program] + 1 :] if program in first else []

    if not _SFTP_SERVERS.isdisjoint(first):
        return "sftp"
    if not _GIT_PROGRAMS.isdisjoint(first) or not _GIT.isdisjoint(behind("git")):
        return "git"
    if "--server" in behind("rsync"):
        return "rsync"
    if any(_SCP_END.match(word) for word in behind("scp")):
        return "scp"
    return None


def is_copy(request: OpenSession) -> str:
    """What a request copies files with, empty for none: the sftp subsystem, or a command's far end of a copy.
    A command that is not known letter by letter may hide one in what is missing (attack A13)."""
    if request.kind == "subsystem":
        return "sftp" if request.command == "sftp" else ""
    if request.kind != "exec":
        return ""
    return copies_with(request.command) or ("" if request.exact else "unknown")
