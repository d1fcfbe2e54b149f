from pathlib import Path

import pytest

from pkgs.common.errors import InputError
from pkgs.common.membership.route import route_of
from pkgs.common.runtime.config import Config, parse_config


def config(instance: str, *, auth: str = "{enabled: no}") -> Config:
    text = f"version: v3\nteleport: {{data_dir: /d, {instance}}}\nauth_service: {auth}\n"
    return parse_config(text + "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n")


@pytest.mark.parametrize(
    ("instance", "auth", "addrs", "by_proxy"),
    [
        ("auth_server: '10.0.0.1:4000'", "{enabled: no}", ("10.0.0.1:4000",), False),
        ("proxy_server: 'p.example:3080'", "{enabled: no}", ("p.example:3080",), True),
        ("nodename: x", "{enabled: yes}", ("127.0.0.1:3025",), False),
        ("nodename: x", "{enabled: yes, listen_addr: '127.0.0.2:99'}", ("127.0.0.2:99",), False),
        ("nodename: x", "{enabled: yes, listen_addr: '[::]:99'}", ("[::1]:99",), False),
    ],
)
def test_the_way_to_the_auth_service(instance, auth, addrs, by_proxy):
    route = route_of(config(instance, auth=auth))
    assert (route.addrs, route.by_proxy) == (addrs, by_proxy)
    assert route.join_socket == (Path("/d/auth.sock") if "yes" in auth else None)


def test_several_addresses_of_older_files():
    text = "version: v2\nteleport: {data_dir: /d, auth_servers: ['a:3025', 'b:1']}\n"
    text += "auth_service: {enabled: no}\n"
    assert route_of(parse_config(text)).addrs == ("a:3025", "b:1")


def test_none_is_one_line_that_says_what_to_set():
    with pytest.raises(InputError, match="--proxy-server"):
        route_of(config("nodename: x"))


def test_the_protocol_name_carries_the_cluster():
    assert route_of(config("proxy_server: 'p:443'")).alpn("alpha") == ("teleport-auth@alpha",)
