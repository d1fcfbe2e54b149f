"""`teleport install systemd`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

_SERVICES = ("auth", "proxy", "ssh", "db", "openssh")

SPEC = Spec(
    "Write a hardened systemd unit for each service: those named, else those that the configuration enables;"
    " all of them while there is no configuration yet.",
    Flag(
        "service",
        "auth, proxy or ssh, or openssh: the timer of `teleport join openssh` (repeatable)",
        is_list=True,
        choices=_SERVICES,
        metavar="NAME",
    ),
    Flag("output", "Folder for the units", short="o", default="/etc/systemd/system", metavar="DIR"),
    Flag("teleport-path", "Folder of the programs; this installation if not given", metavar="DIR"),
    Flag("env-file", "File with environment variables", default="/etc/default/teleport", metavar="FILE"),
    Flag("fd-limit", "Most open files", default="524288", metavar="N"),
)


def run(args: Parsed) -> int:
    """Write them and say what to do next."""
    from pkgs.clients.teleport.programs import program_dir
    from pkgs.clients.teleport.units import UnitSettings, file_name, hidden_among, openssh_units, render
    from pkgs.common.runtime.config import DEFAULT_DATA_DIR, load_config
    from pkgs.common.runtime.services import SERVICES

    named = args.texts("service")
    path = Path(args.text("config")).absolute()
    data_dir = Path(DEFAULT_DATA_DIR)
    enabled = set(named)
    bounds_sessions = False
    if not path.exists() and "config" not in args.given:
        enabled = enabled or set(SERVICES)
    elif path.exists() or not named:
        config = load_config(path)
        data_dir = config.data_dir
        bounds_sessions = config.ssh_service.bounds_sessions
        enabled = enabled or {name for name in SERVICES if config.is_enabled(name)}
    folder = Path(args.text("output"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output: {folder} is no folder: {error.strerror}") from error
    settings = UnitSettings(
        program_dir=Path(args.text("teleport-path") or program_dir()).absolute(),
        config=path,
        data_dir=data_dir,
        env_file=Path(args.text("env-file")).absolute(),
        fd_limit=args.whole("fd-limit", least=1024),
        bounds_sessions=bounds_sessions,
    )
    needed = [settings.program_dir, settings.config, settings.data_dir]
    if "teleport-path" not in args.given:
        needed.append(Path(sys.executable))
    for service in SERVICES:
        if service in enabled:
            _write(folder / file_name(service), render(service, settings))
    units = [file_name(name) for name in SERVICES if name in enabled]
    if "openssh" in named:
        for name, text in openssh_units(settings).items():
            _write(folder / name, text)
        units.append("teleport-openssh.timer")
    confined = [file_name(name) for name in SERVICES if name in enabled and name != "ssh"]
    hidden = hidden_among(needed) if confined else []
    if hidden:
        sys.stderr.write(
            f"WARNING: {', '.join(confined)} will not see {', '.join(map(str, hidden))}: they run without"
            " home folders and with a /tmp of their own; move it, for instance to /opt or /var/lib\n"
        )
    enable = f"systemctl daemon-reload; systemctl enable --now {' '.join(units)}"
    sys.stderr.write(f"Next: mkdir -p -m 700 {data_dir}; {enable}\n")
    return 0


def _write(unit: Path, text: str) -> None:
    unit.write_text(text)
    unit.chmod(0o644)
    print(f"Wrote {unit}")
