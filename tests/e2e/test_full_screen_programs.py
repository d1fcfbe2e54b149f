"""vi, less and top through the platform, beside the same program run here: the screens are the same."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, Person, run
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("tmux")

HOST = f"{OS_USER}@demo-node.demo"


@dataclass(slots=True)
class Screens:
    """A tmux server of our own with one window per terminal."""

    socket: str
    env: dict[str, str]

    def tmux(self, *args: str) -> str:
        return run("tmux", "-f", "/dev/null", "-L", self.socket, *args, env=self.env).ok().out

    def open(self, name: str, command: str) -> None:
        self.tmux("new-session", "-d", "-s", name, "-x", "90", "-y", "24", command)

    def type(self, name: str, *keys: str) -> None:
        self.tmux("send-keys", "-t", name, *keys)

    def resize(self, name: str, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-t", name, "-x", str(columns), "-y", str(rows))

    def screen(self, name: str) -> str:
        """What is shown, colours included, and where the cursor is."""
        cursor = self.tmux("display-message", "-p", "-t", name, "#{cursor_x},#{cursor_y}")
        return self.tmux("capture-pane", "-p", "-e", "-t", name) + cursor

    def shows(self, name: str, text: str) -> None:
        wait_for(lambda: text in self.tmux("capture-pane", "-p", "-t", name), what=f"{text!r} in {name}")


@pytest.fixture
def screens(alice: Person) -> Iterator[Screens]:
    env = {**alice.env, "TERM": "xterm-256color", "TMUX_TMPDIR": str(alice.home)}
    # A name for each test: the server of the one before may still be there, ending.
    made = Screens(f"full-{uuid.uuid4().hex[:8]}", env)
    try:
        yield made
    finally:
        run("tmux", "-L", made.socket, "kill-server", env=made.env)


@dataclass(slots=True)
class Pair:
    """The same program here and over there, given the same keys."""

    screens: Screens

    def type(self, *keys: str) -> None:
        for name in ("here", "there"):
            self.screens.type(name, *keys)

    def resize(self, columns: int, rows: int) -> None:
        for name in ("here", "there"):
            self.screens.resize(name, columns, rows)

    def alike(self, text: str) -> None:
        """Both have come to show `text`, and then are the same to the last colour."""
        for name in ("here", "there"):
            self.screens.shows(name, text)
        wait_for(
            lambda: self.screens.screen("here") == self.screens.screen("there"),
            what=f"the same screen with {text!r}",
        )


def start(screens: Screens, alice: Person, command: str) -> Pair:
    # tmux describes itself to its programs; over there it is an ordinary terminal: the same for both.
    words = f"env -u TMUX TERM=xterm-256color LC_ALL=C.UTF-8 {command}"
    screens.open("here", words)
    screens.open("there", f"ssh -tt -F {alice.ssh_config()} {HOST} {shlex.quote(words)}")
    return Pair(screens)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "poem"
    path.write_text("".join(f"{n:04d} {'ä€😀 wide ' * (n % 4)}end\n" for n in range(2000)))
    return path


@pytest.mark.needs("less")
def test_less_pages_and_searches(screens: Screens, alice: Person, text: Path) -> None:
    pair = start(screens, alice, f"less -i {text}")
    pair.alike("0003")
    pair.type("G")
    pair.alike("1999")
    pair.type("?", "0421", "Enter")
    pair.alike("0421")
    pair.resize(70, 40)
    pair.alike("0455")
    pair.type("q")


@pytest.mark.needs("vi")
def test_vi_edits(screens: Screens, alice: Person, text: Path) -> None:
    pair = start(screens, alice, f"vi -u NONE -n --cmd 'set nocp' {text}")
    pair.alike("0003")
    pair.type("G", "o", "typed through the platform", "Escape")
    pair.alike("typed through the platform")
    pair.type("gg", "dd", "ma", ":", "set number", "Enter")
    pair.alike("   1 0001")
    pair.resize(100, 30)
    pair.alike("  20 0020")
    pair.type(":q!", "Enter")


@pytest.mark.needs("top")
def test_top_redraws_and_follows_the_size(screens: Screens, alice: Person) -> None:
    """Its numbers change, so its frame is compared: how far it fills the screen."""
    screens.open("there", f"ssh -tt -F {alice.ssh_config()} {HOST} 'TERM=xterm-256color top -d 0.3'")
    screens.shows("there", "Tasks:")
    screens.shows("there", "%Cpu")
    screens.resize("there", 120, 50)
    screens.type("there", "1")
    screens.shows("there", "%Cpu0")
    screens.type("there", "q")
    wait_for(
        lambda: "there" not in run("tmux", "-L", screens.socket, "ls", env=screens.env).out, what="its end"
    )
