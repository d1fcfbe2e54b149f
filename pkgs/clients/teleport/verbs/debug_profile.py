"""`teleport debug profile`."""

from __future__ import annotations

import io
import sys
import tarfile

from pkgs.clients.teleport.debugclient import ask_all
from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.output.argv import Flag, Parsed, Spec

PROFILES = ("allocs", "cmdline", "goroutine", "heap", "profile", "threadcreate")
_DEFAULT = "goroutine,heap,profile"
_CPU_S = 10
_MOST_S = 300
_GRACE_S = 20

SPEC = Spec(
    "Write profiles as a gzipped tar to standard output. goroutine: stacks of all tasks and threads; heap:"
    " objects by type; profile: sampled stacks, in the collapsed form that flame graph tools read.",
    Flag("seconds", "How long to look; 0: 10 s for profile, a snapshot for others", short="s", default="0",
         metavar="N"),
    usage="[PROFILE,...]",
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Ask every service for every profile."""
    names = [name.strip() for name in (args.words[0] if args.words else _DEFAULT).split(",")]
    for name in names:
        if name not in PROFILES:
            raise InputError(f"{name[:40]!r} is no profile", hint=f"allowed: {', '.join(PROFILES)}")
    seconds = args.whole("seconds")
    if seconds > _MOST_S:
        raise InputError(f"--seconds: {seconds} is more than {_MOST_S}")
    if sys.stdout.isatty():
        raise InputError("a tar is not for a terminal", hint="write '> profiles.tar.gz' after the command")
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as tar:
        for name in names:
            took_s = (seconds or _CPU_S) if name == "profile" else seconds
            path = f"/debug/pprof/{name}?seconds={took_s}"
            replies = ask_all(args, "GET", path, timeout_s=took_s + _GRACE_S)
            for entry, reply in replies:
                if reply.status != 200:
                    raise UnavailableError(f"{entry.service}: {name}: {reply.text}")
                prefix = f"{entry.service}/" if len(replies) > 1 else ""
                info = tarfile.TarInfo(f"{prefix}{name}.pprof")
                info.size, info.mode = len(reply.body), 0o600
                tar.addfile(info, io.BytesIO(reply.body))
    return 0
