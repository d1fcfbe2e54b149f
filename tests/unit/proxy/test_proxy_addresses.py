"""Which addresses are shown, certified, and never dialled."""

from __future__ import annotations

import socket

import pytest

from pkgs.common.errors import UnavailableError
from pkgs.common.runtime.config import Config, parse_config
from pkgs.proxy import addresses
from pkgs.proxy.router import choose_protocol


def config(section: str, instance: str = "") -> Config:
    return parse_config(
        f"version: v3\nteleport:\n  nodename: p1\n  auth_server: a.example:3025\n{instance}"
        "auth_service: {enabled: no}\nssh_service: {enabled: no}\nproxy_service:\n  enabled: yes\n" + section,
        "teleport.yaml",
    )


def test_a_wildcard_is_advertised_by_name_or_by_what_is_configured() -> None:
    plain = config("  web_listen_addr: 0.0.0.0:443\n")
    assert addresses.advertised(plain, "0.0.0.0:443") == "p1:443"
    assert addresses.advertised(config("", "  advertise_ip: 192.0.2.9\n"), "0.0.0.0:443") == "192.0.2.9:443"
    assert addresses.advertised(plain, "192.0.2.1:443") == "192.0.2.1:443"


def test_ping_tells_public_addresses_with_their_ports() -> None:
    shown = addresses.shown(config("  public_addr: hub.example.com\n"), "0.0.0.0:443", "", "", "")
    assert shown.public == "hub.example.com:443"
    assert shown.ssh_public == ""
    mysql = config("  mysql_public_addr: db.example.com\n")
    shown = addresses.shown(mysql, "0.0.0.0:443", "", "", "0.0.0.0:3036")
    assert (shown.mysql_listen, shown.mysql_public) == ("0.0.0.0:3036", "db.example.com:3036")
    assert addresses.shown(mysql, "0.0.0.0:443", "", "", "").mysql_public == ""
    assert "db.example.com" in addresses.own_names(mysql)


def test_the_certificate_names_what_clients_use() -> None:
    named = config("  public_addr: [hub.example.com:443, 192.0.2.1]\n  web_listen_addr: 192.0.2.7:443\n")
    assert addresses.principals(named) == ["hub.example.com", "192.0.2.1", "192.0.2.7"]


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "::ffff:127.0.0.1",
        "240.0.0.1",
    ],
)
def test_a20_addresses_that_an_agent_can_not_make_us_dial(target: str) -> None:
    policy = addresses.dial_policy(["0.0.0.0:443"], ["192.0.2.3:3025"])
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with pytest.raises(UnavailableError):
        policy.check([(family, (target, 22))])


def test_a20_our_own_ports_and_auths_are_never_dialled_even_on_loopback() -> None:
    policy = addresses.dial_policy(["127.0.0.1:3080", "127.0.0.1:3023"], ["127.0.0.1:3025"])
    for port in (3080, 3023, 3025):
        with pytest.raises(UnavailableError):
            policy.check([(socket.AF_INET, ("127.0.0.1", port))])
    policy.check([(socket.AF_INET, ("127.0.0.1", 3022))])
    policy.check([(socket.AF_INET, ("192.0.2.50", 3022))])


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ((), "http/1.1"),
        (("h2", "http/1.1"), "h2"),
        (("teleport-dial",), "teleport-dial"),
        (("teleport-auth@demo",), "teleport-auth@demo"),
        (("unknown", "teleport-reversetunnel"), "teleport-reversetunnel"),
        (("acme-tls/1",), ""),
    ],
)
def test_the_first_offer_that_is_ours_is_taken(offers: tuple[str, ...], chosen: str) -> None:
    assert choose_protocol(offers) == chosen
