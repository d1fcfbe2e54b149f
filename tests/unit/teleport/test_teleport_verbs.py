"""The umbrella program without services: configure, units, version, refusals."""

from __future__ import annotations

import configparser
import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.clients.teleport.main import TOOL, main
from pkgs.clients.teleport.sample import Wishes, render
from pkgs.clients.teleport.units import UnitSettings, hidden_among
from pkgs.clients.teleport.units import render as render_unit
from pkgs.common.output.tool import Group, Verb
from pkgs.common.runtime.config import load_config, parse_config
from pkgs.common.runtime.services import SERVICES, Service
from pkgs.common.runtime.version import VERSION
from tests.harness.examples import examples

SETTINGS = UnitSettings(
    program_dir=Path("/opt/toolkit/bin"),
    config=Path("/etc/teleport.yaml"),
    data_dir=Path("/var/lib/teleport"),
    env_file=Path("/etc/default/teleport"),
    fd_limit=4096,
)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert f"v{VERSION}" in capsys.readouterr().out


def test_configure_prints_a_valid_commented_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configure", "--cluster-name=example.com", "--public-addr=example.com:443"]) == 0
    text = capsys.readouterr().out
    config = parse_config(text)
    assert config.version == "v3"
    assert config.auth_service.cluster_name == "example.com"
    assert config.proxy_service.public_addrs == ("example.com:443",)
    assert text.count("#") > 15
    file = tmp_path / "t.yaml"
    file.write_text(text)
    assert main(["configure", "--test", str(file)]) == 0


def test_the_commented_examples_are_valid_too() -> None:
    example = re.compile(r"  # ( *(- )?[a-z_]+:(?: \S.*)?)(?<!\.)$")
    lines = [
        f"  {found[1]}" if (found := example.match(line)) else line for line in render(Wishes()).splitlines()
    ]
    config = parse_config("\n".join(lines))
    assert config.proxy_service.keypairs
    assert config.ssh_service.commands
    assert config.ssh_service.labels == {"env": "prod"}


def test_configure_test_names_the_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("version: v3\nteleport:\n  nodname: x\n")
    assert main(["configure", f"--test={file}"]) == 2
    assert (
        capsys.readouterr().err
        == f"ERROR: {file}:3: teleport.nodname: unknown key 'nodname'; did you mean nodename?\n"
    )


def test_configure_writes_a_private_file_and_overwrites_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.yaml"
    words = ["node", "configure", "--proxy=p.example.com:443", "--token=secret", f"--output={path}"]
    assert main(words) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    config = load_config(path)
    assert (config.proxy_addr, config.token()) == ("p.example.com:443", "secret")
    assert [name for name in SERVICES if config.is_enabled(name)] == ["ssh"]
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_agent_needs_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "configure"]) == 2
    assert "--proxy or --auth-server" in capsys.readouterr().err


TEXT = st.text(min_size=1, max_size=30).filter(lambda text: text == text.strip() and not text.startswith("/"))


@settings(max_examples=examples(100))
@given(token=TEXT, labels=st.dictionaries(TEXT, TEXT, max_size=3))
def test_whatever_is_asked_for_arrives_as_it_is(token: str, labels: dict[str, str]) -> None:
    text = render(Wishes(roles=frozenset({"node"}), proxy_server="p:1", token=token, node_labels=labels))
    config = parse_config(text)
    assert config.token() == token
    assert config.ssh_service.labels == labels


@pytest.mark.parametrize("service", SERVICES)
def test_units(service: Service) -> None:
    text = render_unit(service, SETTINGS)
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    unit = parser["Service"]
    assert unit["Type"] == "notify"
    assert unit["ExecStart"] == f"/opt/toolkit/bin/teleport-{service} -c /etc/teleport.yaml"
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["LimitNOFILE"] == "4096"
    assert ("NoNewPrivileges" in unit) == (service != "ssh")
    assert (
        unit.get("CapabilityBoundingSet", "none")
        == {"auth": "", "proxy": "CAP_NET_BIND_SERVICE", "ssh": "none", "db": ""}[service]
    )


def test_a_unit_whose_sessions_have_bounds_may_divide_its_group() -> None:
    text = render_unit("ssh", dataclasses.replace(SETTINGS, bounds_sessions=True))
    assert "\nDelegate=memory pids\nKillMode=mixed\n" in text
    assert "Delegate" not in render_unit("ssh", SETTINGS)
    assert "\nKillMode=process\n" in render_unit("ssh", SETTINGS)


def test_what_a_unit_would_not_see() -> None:
    seen = [Path("/opt/toolkit/bin"), Path("/homes/x"), Path("/var/lib/teleport")]
    unseen = [Path("/root/toolkit/bin"), Path("/home/mira/teleport.yaml"), Path("/tmp/data")]
    assert hidden_among([*seen, *unseen]) == unseen


def test_install_systemd_warns_of_what_a_unit_would_not_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["install", "systemd", f"--output={tmp_path}", "--service=auth", "--service=ssh"]
    assert main([*words, "--teleport-path=/root/toolkit/bin", "-c/nowhere"]) == 0
    told = capsys.readouterr().err
    assert "WARNING: teleport-auth.service will not see /root/toolkit/bin" in told
    assert told.count("WARNING") == 1
    assert "teleport-ssh.service will" not in told
    assert main([*words, "--teleport-path=/opt/toolkit/bin", "-c/nowhere"]) == 0
    assert "WARNING" not in capsys.readouterr().err
    assert main(["install", "systemd", f"--output={tmp_path}", "--service=ssh", "-c/root/x"]) == 0
    assert "WARNING" not in capsys.readouterr().err


def test_install_systemd_writes_what_the_file_enables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "my teleport.yaml"
    config.write_text(
        "version: v3\nteleport: {proxy_server: 'p:1'}\n"
        "auth_service: {enabled: no}\nproxy_service: {enabled: no}\n"
    )
    assert main(["install", "systemd", f"-c{config}", f"--output={tmp_path}"]) == 0
    units = sorted(path.name for path in tmp_path.glob("*.service"))
    assert units == ["teleport-ssh.service"]
    assert f'-c "{config}"' in (tmp_path / units[0]).read_text()
    assert "daemon-reload" in capsys.readouterr().err
    assert (
        main(
            ["install", "systemd", "-c/nowhere", f"--output={tmp_path}", "--service=auth", "--service=proxy"]
        )
        == 0
    )
    assert len(list(tmp_path.glob("*.service"))) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["debug", "set-log-level", "LOUD"], "no log level"),
        (["debug", "profile", "nope"], "no profile"),
        (["start", "-c/nowhere/t.yaml"], "no such file"),
        (["strat"], "did you mean 'teleport start'"),
        (["start", "--roles=kube", "-c{file}"], "--roles"),
        (["debug", "readyz", "-c{file}"], "no debug socket in the data dir"),
        (["install", "systemd", "-c{file}", "--output={file}"], "no folder"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(f"teleport: {{data_dir: {tmp_path}}}\n")
    assert main([word.format(file=file) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert error.count("\n") == 1
    assert expected in error


def test_every_verb_has_a_spec_and_a_help() -> None:
    def walk(group: Group) -> None:
        for entry in group.verbs.values():
            assert entry.help
            if isinstance(entry, Verb):
                assert entry.spec().help.endswith(".")
            else:
                walk(entry)

    walk(TOOL.root)
