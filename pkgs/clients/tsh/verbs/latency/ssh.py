"""`tsh latency ssh`: how long the way to a server is, and which part of it."""

from __future__ import annotations

import json
import sys
import time

from pkgs.clients.tsh.connections import openssh
from pkgs.clients.tsh.flags import CLUSTER, RESUME
from pkgs.clients.tsh.login.relogin import current_or_relogin
from pkgs.clients.tsh.measuring.limits import EVERY_S, MAX_SAMPLES, SAMPLES
from pkgs.clients.tsh.verbs.ssh import default_login
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from pkgs.clients.tsh.measuring.roundtrips import Meter

SPEC = Spec(
    "Show how long a round trip takes from here to the proxy, and from the proxy to a server, each second"
    f" until Ctrl-C; where standard output is no terminal, the medians of {SAMPLES} round trips, once.",
    Flag("count", "How many round trips to measure; then end", metavar="NUMBER"),
    Flag("format", "Output format", short="f", default="text", choices=("text", "json"), metavar="FORMAT"),
    CLUSTER,
    *RESUME,
    usage="[USER@]HOST",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Measure, show, end."""
    count = args.whole("count")
    if count > MAX_SAMPLES:
        raise InputError(f"--count is at most {MAX_SAMPLES}")
    openssh.heed_resume(args)
    login = current_or_relogin(args)
    user, _, host = args.words[0].rpartition("@")
    user = openssh.check_login(user or default_login(login, args))
    name = openssh.host_name(login, openssh.strip_cluster(login, host))
    from pkgs.clients.tsh.measuring import roundtrips
    from pkgs.clients.tsh.ownssh.link import Target

    watched = args.text("format") == "text" and sys.stdout.isatty()
    if not count and not watched:
        count = SAMPLES
    with roundtrips.Meter(login, Target(user, name, str(openssh.PORT))) as meter:
        try:
            _measure(meter, count, watched=watched)
        except KeyboardInterrupt:
            if not meter.times.client_proxy:
                raise
        summary = meter.times.summary()
    if args.text("format") == "json":
        sys.stdout.write(json.dumps(summary) + "\n")
        return 0
    sys.stdout.write(
        ("\r\x1b[K" if watched else "")
        + f"Client to proxy: {summary['client_proxy_ms']} ms\n"
        + f"Proxy to host:   {summary['proxy_host_ms']} ms\n"
        + f"Medians of {summary['samples']} round trips.\n"
    )
    return 0


def _measure(meter: Meter, count: int, *, watched: bool) -> None:
    done = 0
    while True:
        meter.measure()
        done += 1
        if watched:
            now = (1000 * meter.times.client_proxy[-1], 1000 * meter.times.proxy_host[-1])
            sys.stdout.write(f"\r\x1b[Kclient to proxy {now[0]:.1f} ms, proxy to host {now[1]:.1f} ms")
            sys.stdout.flush()
        if done == count:
            return
        time.sleep(EVERY_S if watched else EVERY_S / 10)
