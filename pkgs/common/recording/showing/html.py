"""A recording as one page to read: what was shown, line by line, with the time beside it.

The page is complete in itself: no script, nothing that is fetched, and a policy in it that forbids both. All
text of the session is escaped, and of its terminal codes none is left.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from pkgs.common.events.format import rfc3339
from pkgs.common.recording.model import Damage, ExecResult, Item, Mark, SessionMeta
from pkgs.common.recording.showing.lines import Lines
from pkgs.common.recording.showing.plain import plain_line

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Session {title}</title>
<style>
body {{ font: 14px/1.45 ui-monospace, monospace; margin: 2em; color: #1b1f24; background: #fff; }}
dl {{ display: grid; grid-template-columns: max-content auto; gap: .2em 1.5em; }}
dt, time {{ color: #57606a; }}
dd {{ margin: 0; }}
p {{ margin: 0; display: grid; grid-template-columns: 6em auto; }}
span {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.note {{ color: #8250df; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e6edf3; background: #0d1117; }} }}
</style>
</head>
<body>
"""


def to_html(items: Iterable[Item]) -> Iterator[str]:
    """The page in pieces. Lines appear when they were finished; full-screen programs read poorly here."""
    lines = Lines()
    begun = False
    ms = 0
    for item in items:
        if isinstance(item, SessionMeta):
            if not begun:
                begun = True
                yield _opening(item)
            continue
        if not begun:
            begun = True
            yield _HEAD.format(title="without metadata")
        for line in lines.feed([item]):
            yield _line(line.ms, line.text)
        if isinstance(item, Damage):
            yield _line(ms, plain_line(f"damage: {item.problem} (at byte {item.offset})"), note=True)
            continue
        ms = item.ms
        if isinstance(item, Mark):
            yield _line(ms, plain_line(f"{item.kind}: {item.text}"), note=True)
        elif isinstance(item, ExecResult):
            ended = f"signal {item.signal}" if item.signal else f"exit status {item.status}"
            yield _line(ms, plain_line(f"the session ended with {ended}"), note=True)
    if not begun:
        yield _HEAD.format(title="without metadata")
    for line in lines.finish():
        yield _line(line.ms, line.text)
    yield "</body>\n</html>\n"


def _opening(meta: SessionMeta) -> str:
    facts = {
        "Session": meta.session_id,
        "User": ", ".join([meta.user, *(name for name in meta.participants if name != meta.user)]),
        "Login": f"{meta.login} on {meta.hostname}",
        "Cluster": meta.cluster_name,
        "Started": rfc3339(meta.started),
        "Command": meta.command or "(a shell)",
    }
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(plain_line(value))}</dd>\n"
        for name, value in facts.items()
    )
    return _HEAD.format(title=html.escape(plain_line(meta.session_id))) + f"<dl>\n{rows}</dl>\n<hr>\n"


def _line(ms: int, text: str, *, note: bool = False) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    clock = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    kind = ' class="note"' if note else ""
    return f"<p{kind}><time>{clock}</time><span>{html.escape(text)}</span></p>\n"
