"""`teleport.yaml`: what is accepted, the defaults, the versions, and the one line of each refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError
from pkgs.common.runtime.config import Config, config_for, load_config, parse_config
from pkgs.common.runtime.flags import parse_flags
from tests.harness.examples import examples

HUB = """
version: v3
teleport: {nodename: hub, data_dir: /var/lib/teleport}
auth_service: {enabled: yes, cluster_name: hub.example.com, proxy_listener_mode: multiplex}
proxy_service: {enabled: yes, web_listen_addr: 0.0.0.0:443, public_addr: hub.example.com:443}
ssh_service: {enabled: yes, labels: {env: lab}}
"""

AGENT = """
version: v3
teleport:
  proxy_server: hub.example.com:443
  join_params: {method: token, token_name: secret-token}
auth_service: {enabled: no}
proxy_service: {enabled: "no"}
ssh_service:
  enabled: on
  labels: {team: 42, env: on}
  commands: [{name: arch, command: [uname, -m], period: 1h}]
"""


def refused(text: str) -> str:
    with pytest.raises(InputError) as error:
        parse_config(text, "t.yaml")
    message = str(error.value)
    assert "\n" not in message
    return message


def test_samples_of_the_field_load() -> None:
    hub = parse_config(HUB)
    assert hub.auth_service.cluster_name == "hub.example.com"
    assert hub.proxy_service.public_addrs == ("hub.example.com:443",)
    agent = parse_config(AGENT)
    assert not agent.auth_service.enabled
    assert not agent.proxy_service.enabled
    assert agent.proxy_addr == "hub.example.com:443"
    assert agent.token() == "secret-token"
    assert agent.ssh_service.labels == {"team": "42", "env": "on"}


def test_defaults_are_those_of_the_field() -> None:
    config = parse_config("version: v2\n")
    assert (config.auth_service.enabled, config.proxy_service.enabled, config.ssh_service.enabled) == (
        True,
    ) * 3
    assert config.debug_service.enabled
    assert config.data_dir == Path("/var/lib/teleport")
    assert config.auth_service.listen_addr == "0.0.0.0:3025"
    assert config.proxy_service.web_listen_addr == "0.0.0.0:3080"
    assert config.proxy_service.listen_addr == ""
    assert config.ssh_listen_addr == "0.0.0.0:3022"
    assert config.auth_service.recording_mode == "node"
    assert config.auth_service.authentication.effective_second_factor == "otp"
    assert config.teleport.log.severity == "INFO"


def test_numbers_of_displays() -> None:
    for text, numbers in (
        ("{}", range(0)),
        ("{display_offset: 5}", range(0)),
        ("{enabled: yes}", range(10, 1011)),
        ("{enabled: yes, display_offset: 20}", range(20, 1021)),
        ("{enabled: yes, max_display: 12}", range(10, 13)),
        ("{enabled: yes, display_offset: 0, max_display: 1}", range(2)),
    ):
        assert parse_config(f"version: v3\nssh_service: {{x11: {text}}}\n").ssh_service.x11.numbers == numbers


def test_no_version_is_v1_which_opens_ports_of_its_own() -> None:
    config = parse_config("")
    assert config.version == "v1"
    assert config.proxy_service.listen_addr == "0.0.0.0:3023"
    assert config.proxy_service.tunnel_listen_addr == "0.0.0.0:3024"
    assert config.proxy_service.mysql_listen_addr == "0.0.0.0:3036"
    assert parse_config("version: v3").proxy_service.mysql_listen_addr == ""


def test_words_that_yaml_takes_for_booleans_are_what_the_field_wants() -> None:
    config = parse_config(
        "auth_service: {session_recording: off, proxy_protocol: on, authentication: {second_factor: off}}"
    )
    assert config.auth_service.recording_mode == "off"
    assert config.auth_service.proxy_protocol == "on"
    assert config.auth_service.authentication.effective_second_factor == "off"


def test_encryption_of_recordings() -> None:
    block = "auth_service: {session_recording_config: {encryption: %s}}"
    assert parse_config(block % "{enabled: true}").auth_service.recording_encryption
    assert not parse_config(block % "{}").auth_service.recording_encryption


def test_one_or_several_values() -> None:
    assert parse_config("proxy_service: {public_addr: a.example.com}").proxy_service.public_addrs == (
        "a.example.com",
    )
    several = parse_config("proxy_service: {public_addr: [a.example.com, 'b.example.com:443']}")
    assert several.proxy_service.public_addrs == ("a.example.com", "b.example.com:443")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("teleport:\n  nodname: x\n", "t.yaml:2: teleport.nodname: unknown key"),
        ("teleport:\n  nodname: x\n", "did you mean nodename"),
        ("teleport:\n  data_dir: [1]\n", "t.yaml:2: teleport.data_dir: found a list"),
        ("version: v9\n", "t.yaml:1: version: found 'v9', expected one of v1, v2, v3"),
        ("auth_service:\n  enabled: maybe\n", "auth_service.enabled: found 'maybe', expected yes or no"),
        ("auth_service:\n  listen_addr: foo\n", "t.yaml:2: auth_service.listen_addr: found 'foo'"),
        ("version: v3\nauth_service: {enabled: no}\n", "found neither auth_server nor proxy_server"),
        ("teleport:\n  proxy_server: a:1\n", "t.yaml:2: teleport.proxy_server: found version v1"),
        ("version: v3\nteleport: {auth_server: 'a:1', proxy_server: 'b:1'}\n", "exactly one of the two"),
        ("version: v3\nteleport: {auth_servers: ['a:1']}\n", "teleport.auth_servers"),
        ("teleport: {auth_token: x, join_params: {token_name: y}}\n", "one of the two"),
        ("app_service:\n  enabled: yes\n", "t.yaml:2: app_service.enabled: found yes"),
        (
            "ssh_service:\n  commands:\n  - name: x\n    command: []\n",
            "t.yaml:4: ssh_service.commands[0].command",
        ),
        ("ssh_service:\n  commands:\n  - command: [a]\n", "ssh_service.commands[0].name: missing"),
        ("ssh_service: {pam: {use_pam_auth: yes}}\n", "ssh_service.pam.use_pam_auth"),
        ("ssh_service: {x11: {display_offset: -1}}\n", "ssh_service.x11.display_offset"),
        ("ssh_service: {x11: {display_offset: 60000}}\n", "ssh_service.x11.display_offset"),
        ("ssh_service: {x11: {max_display: 9}}\n", "ssh_service.x11.max_display"),
        ("ssh_service: {x11: {max_display: 1011}}\n", "ssh_service.x11.max_display"),
        ("ssh_service: {pam: {service_name: ../x}}\n", "ssh_service.pam.service_name"),
        ("ssh_service: {pam: {environment: {'A=B': x}}}\n", "ssh_service.pam.environment"),
        ("teleport:\n  ca_pin: abc\n", "sha256:<64 hex digits>"),
        ("auth_service: {client_idle_timeout: 3 days}", "a duration such as 30s"),
        ("auth_service: {cluster_name: 'a b'}", "auth_service.cluster_name"),
        ("auth_service: {session_recording: both}", "expected one of"),
        ("auth_service: {authentication: {type: github}}", "expected one of local"),
        ("teleport: {log: {severity: loud}}", "TRACE, DEBUG, INFO, WARN, ERROR"),
        ("proxy_service: {https_key_file: /k}", "found no https_cert_file"),
        (
            "proxy_service: {https_keypairs: [{key_file: /k}]}",
            "proxy_service.https_keypairs[0].cert_file: missing",
        ),
        ("teleport: {auth_connection_config: {upper_limit_between_retries: 5s}}", "at least 10s"),
        ("x: [1, 2", "not valid YAML"),
        ("version: v3\nversion: v3\n", "key given twice"),
        ("- a\n", "found a list, expected a mapping"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_path_found_and_allowed(text: str, expected: str) -> None:
    message = refused(text)
    assert message.startswith("t.yaml:")
    assert expected in message


@pytest.mark.parametrize("entry", ["hunter2hunter2", "hunter2hunter2:node", "nod:hunter2hunter2"])
def test_a_refused_static_token_is_not_repeated(entry: str) -> None:
    message = refused(f"auth_service: {{tokens: ['{entry}']}}")
    assert "hunter2" not in message


def test_a_disabled_service_of_the_field_may_keep_its_settings() -> None:
    parse_config("app_service: {enabled: no, apps: [{name: x, uri: 'http://x'}]}")


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(
    st.sampled_from([HUB, AGENT]),
    st.integers(0, 400),
    st.integers(0, 40),
    st.text(alphabet=st.sampled_from("abc:- \n\t{}[]'\"#&*!|>%@,0123456789\x00\x7f\u202e"), max_size=20),
)
def test_fuzz_a_damaged_file_is_a_configuration_or_one_line(text: str, at: int, cut: int, put: str) -> None:
    try:
        assert isinstance(parse_config(text[:at] + put + text[at + cut :], "t.yaml"), Config)
    except InputError as error:
        assert "\n" not in str(error)


def test_a65_no_representation_holds_a_secret() -> None:
    config = parse_config(
        "version: v3\nteleport: {auth_server: 'a:1', auth_token: canary1}\n"
        "auth_service: {tokens: ['node:canary2']}"
    )
    shown = f"{config!r} {config} {config.teleport!r} {config.auth_service!r} {config.static_tokens()!r}"
    assert "canary" not in shown
    assert "roles=('node',)" in shown


def test_a_setting_without_effect_is_told() -> None:
    config = parse_config(
        "teleport: {kex_algos: [x]}\nauth_service: {web_idle_timeout: 10m, load_all_cas: yes}"
    )
    assert config.without_effect == ("teleport.kex_algos", "auth_service.load_all_cas")
    assert parse_config("").without_effect == ()


def test_files_for_secrets(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from-file\n")
    pins = tmp_path / "pins"
    pins.write_text(f"sha256:{'a' * 64}\nsha256:{'b' * 64}\n")
    config = parse_config(
        f"version: v3\nteleport: {{auth_server: 'a:3025', auth_token: {token}, ca_pin: {pins}}}\n"
        f"auth_service: {{tokens: ['node,proxy:{token}']}}"
    )
    assert config.token() == "from-file"
    assert [pin[-1] for pin in config.ca_pins()] == ["a", "b"]
    (static,) = config.static_tokens()
    assert (static.roles, static.secret) == (("node", "proxy"), "from-file")
    token.unlink()
    with pytest.raises(InputError, match="the join token"):
        config.token()


def test_no_such_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; `teleport configure`"):
        load_config(tmp_path / "none.yaml")


def test_a_name_that_cannot_be_shown_is_replaced_by_a_stable_id() -> None:
    config = parse_config("teleport: {nodename: 'bad name'}")
    assert config.nodename == parse_config("teleport: {nodename: 'bad name'}").nodename
    assert len(config.nodename) == 36


def flags(service: str, *argv: str) -> Config:
    return config_for(service, parse_flags(service, argv))  # type: ignore[arg-type]


def test_flags_make_a_file_unnecessary(tmp_path: Path) -> None:
    config = flags(
        "ssh",
        f"--data-dir={tmp_path}",
        "--proxy-server=127.0.0.1:3080",
        "--token=t",
        f"--ca-pin=sha256:{'0' * 64}",
        "--labels=env=prod,team=x",
        "--insecure",
        "-d",
        "--log-format=json",
    )
    assert config.source == ""
    assert not config.auth_service.enabled
    assert not config.proxy_service.enabled
    assert config.ssh_service.labels == {"env": "prod", "team": "x"}
    assert (config.token(), config.insecure, config.teleport.log.severity) == ("t", True, "DEBUG")
    assert config.teleport.log.format.output == "json"
    assert config.data_dir == tmp_path


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(AGENT)
    config = flags("ssh", f"-c{file}", "--auth-server=auth:3025", "--labels=env=prod", "--listen=:3022")
    assert config.auth_addrs == ("auth:3025",)
    assert config.proxy_addr == ""
    assert config.ssh_service.labels == {"team": "42", "env": "prod"}
    assert config.ssh_service.listen_addr == ":3022"
    assert config.source == str(file)


def test_a_service_that_the_file_turns_off_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(AGENT)
    with pytest.raises(InputError, match=r"auth_service\.enabled: found no; allowed: yes"):
        flags("auth", "-c", str(file))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--bogus"], "--bogus"),
        (["--data-dir=/tmp/x"], "--proxy-server or --auth-server"),
        (["--data-dir=/tmp/x", "--proxy-server=x"], "--proxy-server: found 'x'"),
        (["--data-dir=/tmp/x", "--proxy-server=x:1", "--auth-server=y:1"], "exactly one"),
        (["--data-dir=/tmp/x", "--proxy-server=x:1", "--ca-pin=1"], "--ca-pin"),
        (["--data-dir=/tmp/x", "--proxy-server=x:1", "--labels=a"], "--labels: found 'a'"),
        (["--log-format=xml"], "--log-format"),
    ],
)
def test_a_wrong_flag_is_named(argv: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        flags("ssh", *argv)
    assert expected in str(error.value)
