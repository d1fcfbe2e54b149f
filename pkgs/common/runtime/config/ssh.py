"""The `ssh_service` section."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.values import Problem, Section, as_list

_PAM_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_MEMORY = re.compile(r"([1-9][0-9]{0,6})(MiB|GiB)", re.ASCII)
_SHIFT = {"MiB": 20, "GiB": 30}
_LEAST_MEMORY = 128 << 20
"""A connection's own process needs about half of it."""
_LEAST_PROCESSES = 16
MAX_DISPLAY = 59535
"""The highest number whose port, by which others know a display, is one: 6000 and the number."""
X11_DISPLAYS = 1000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


class CommandLabel(Section, frozen=True, kw_only=True):
    """A label whose value is the output of a command."""

    name: str
    """The label's name."""
    command: list[str]
    """Program and arguments; no shell."""
    period: str = "1m"
    """How often it runs."""


class EnhancedRecording(Section, frozen=True, kw_only=True):
    """Recording by the kernel; not built yet, so only `enabled: no` is accepted."""

    enabled: bool = False
    """Must be no."""


class Pam(Section, frozen=True, kw_only=True):
    """PAM for sessions: its account and session modules. Needs root."""

    enabled: bool = False
    """Whether it is asked."""
    service_name: str = "sshd"
    """Its file below `/etc/pam.d`."""
    use_pam_auth: bool = False
    """Must be no: its authentication modules are not run."""
    environment: dict[str, str] = {}
    """Variables that modules see; values may be templates, as in roles."""


class X11(Section, frozen=True, kw_only=True):
    """X11 forwarding. Needs `xauth` on the host."""

    enabled: bool = False
    """Allow it where roles allow it too."""
    display_offset: int = 10
    """The lowest number of a display."""
    max_display: int = 0
    """The highest; 0: a thousand more than the lowest."""

    @property
    def numbers(self) -> range:
        """Numbers that displays may have; none when it is off."""
        last = self.max_display or self.display_offset + X11_DISPLAYS
        return range(self.display_offset, last + 1) if self.enabled else range(0)


class SshService(Section, frozen=True, kw_only=True):
    """The SSH Service: sessions on this host."""

    enabled: bool = True
    """Whether this host runs it."""
    listen_addr: str = ""
    """Where direct connections are accepted; 0.0.0.0:3022 unless the host is reached by tunnel."""
    public_addr: str | list[str] = []
    """Names and addresses by which others reach it; they go into its host certificate."""
    labels: dict[str, str] = {}
    """Static labels: what roles match on."""
    commands: list[CommandLabel] = []
    """Labels made by commands."""
    permit_user_env: bool = False
    """Read `~/.tsh/environment` of the login."""
    disable_create_host_user: bool = False
    """Never create logins on this host."""
    force_listen: bool = False
    """Open `listen_addr` even when the host is reached by tunnel."""
    port_forwarding: bool = True
    """Allow port forwarding where roles allow it too."""
    ssh_file_copy: bool = True
    """Allow scp and sftp where roles allow it too."""
    enhanced_recording: EnhancedRecording = EnhancedRecording()
    """Recording by the kernel."""
    pam: Pam = Pam()
    """PAM for sessions."""
    x11: X11 = X11()
    """X11 forwarding."""
    session_memory: str = ""
    """Most memory of one connection and all it starts, such as 512MiB or 4GiB; needs a control group that is
    delegated to the service, as in the unit of `teleport install systemd`. Empty: no bound."""
    session_processes: int = 0
    """Most processes of one connection and all it starts; without a delegated control group, of one user.
    0: a user gets half of what the host has room for."""

    @property
    def session_memory_bytes(self) -> int:
        """0: no bound."""
        found = _MEMORY.fullmatch(self.session_memory)
        return int(found[1]) << _SHIFT[found[2]] if found else 0

    @property
    def bounds_sessions(self) -> bool:
        """Whether connections are to have control groups of their own."""
        return bool(self.session_memory or self.session_processes)

    @property
    def public_addrs(self) -> tuple[str, ...]:
        """`public_addr` as a tuple."""
        return as_list(self.public_addr)

    def problems(self, path: str) -> Iterator[Problem]:
        yield from checks.maybe_host_port(f"{path}.listen_addr", self.listen_addr)
        for value in self.public_addrs:
            yield from checks.host_port(f"{path}.public_addr", value, port_needed=False)
        for index, label in enumerate(self.commands):
            where = f"{path}.commands[{index}]"
            if not label.name:
                yield Problem(f"{where}.name", "''", "the name of a label")
            if not label.command:
                yield Problem(f"{where}.command", "an empty list", "a program and its arguments")
            yield from checks.duration(f"{where}.period", label.period, least_s=1)
        if not _PAM_SERVICE.fullmatch(self.pam.service_name):
            yield Problem(
                f"{path}.pam.service_name", repr(self.pam.service_name), "a file name in /etc/pam.d"
            )
        if self.session_memory and self.session_memory_bytes < _LEAST_MEMORY:
            yield Problem(f"{path}.session_memory", repr(self.session_memory), "128MiB or more, such as 4GiB")
        if self.session_processes and self.session_processes < _LEAST_PROCESSES:
            yield Problem(
                f"{path}.session_processes", str(self.session_processes), f"{_LEAST_PROCESSES} or more, or 0"
            )
        for variable in self.pam.environment:
            if not _VARIABLE.fullmatch(variable):
                yield Problem(f"{path}.pam.environment", repr(variable), "the name of a variable")
        if self.pam.use_pam_auth:
            yield from checks.not_built(f"{path}.pam.use_pam_auth", found="yes", allowed="no")
        if self.enhanced_recording.enabled:
            yield from checks.not_built(f"{path}.enhanced_recording.enabled", found="yes", allowed="no")
        yield from self._problems_of_x11(f"{path}.x11")

    def _problems_of_x11(self, path: str) -> Iterator[Problem]:
        lowest, highest = self.x11.display_offset, self.x11.max_display
        if not 0 <= lowest <= MAX_DISPLAY:
            yield Problem(f"{path}.display_offset", str(lowest), f"a number from 0 to {MAX_DISPLAY}")
        elif highest and not lowest <= highest <= lowest + X11_DISPLAYS:
            yield Problem(
                f"{path}.max_display", str(highest), f"a number from {lowest} to {lowest + X11_DISPLAYS}"
            )
