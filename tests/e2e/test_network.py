"""Three hosts in namespaces with firewalls: the proxy's one port can be reached, and nothing else.

Needs root (ip netns, nftables). The namespaces and their addresses are made here and removed again.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.harness.cluster import BIN, OS_USER, Cluster, run
from tests.harness.wait import wait_for

pytestmark = [
    pytest.mark.needs("ip"),
    pytest.mark.needs("nft"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

TAG = f"tp{os.getpid() % 10000}"
SERVER, AGENT, CLIENT = f"{TAG}s", f"{TAG}a", f"{TAG}c"


def inside(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    """server 10.77.1.1 (and 10.77.2.1); agent 10.77.1.2; client 10.77.2.2."""
    names = (SERVER, AGENT, CLIENT)
    try:
        for name in names:
            run("ip", "netns", "add", name).ok()
            run(*inside(name), "ip", "link", "set", "lo", "up").ok()
        for net, peer in ((1, AGENT), (2, CLIENT)):
            here, there = f"{TAG}v{net}", f"{TAG}w{net}"
            run("ip", "link", "add", here, "netns", SERVER, "type", "veth", "peer", there, "netns", peer).ok()
            for space, link, addr in ((SERVER, here, 1), (peer, there, 2)):
                run(*inside(space), "ip", "addr", "add", f"10.77.{net}.{addr}/24", "dev", link).ok()
                run(*inside(space), "ip", "link", "set", link, "up").ok()
        run(*inside(CLIENT), "ip", "route", "add", "10.77.1.1/32", "via", "10.77.2.1").ok()
        yield
    finally:
        for name in names:
            run("ip", "netns", "del", name)


def firewall(namespace: str, *accept: str) -> None:
    """Drop everything that comes in, but answers, loopback and what is named."""
    rules = "\n".join(f"    {rule} accept" for rule in accept)
    run(
        *inside(namespace), "nft", "-f", "-",
        stdin="table inet t {\n  chain in {\n    type filter hook input priority 0; policy drop;\n"
        f"    iif lo accept\n    ct state established,related accept\n{rules}\n  }}\n}}\n",
    ).ok()  # fmt: skip


@pytest.fixture(scope="module")
def cluster(hosts: None) -> Iterator[Cluster]:
    made = Cluster(services=("auth", "proxy"), inside=inside(SERVER), host="10.77.1.1")
    made.overrides = {"proxy_service": {"web_listen_addr": f"0.0.0.0:{made.web_port}"}}
    made.write_config()
    firewall(SERVER, f"tcp dport {made.web_port}")
    firewall(AGENT)
    try:
        made.start()
        token, pin = made.token(), made.ca_pin()
        made.inside = inside(AGENT)
        made.daemon(
            "far",
            BIN / "teleport-ssh",
            f"--data-dir={made.dir / 'far'}",
            f"--proxy-server={made.proxy_addr}",
            f"--token={token}",
            f"--ca-pin={pin}",
            "--labels=env=prod",
            "--nodename=far",
            "--insecure",
        )
        made.inside = inside(SERVER)
        made.wait_node("far")
        yield made
    finally:
        made.destroy()


def test_an_agent_behind_a_firewall_is_reached_through_the_one_port(cluster: Cluster) -> None:
    alice = cluster.person("alice", inside=inside(CLIENT))
    alice.login().ok()
    out = alice.tsh("ssh", f"{OS_USER}@far", "hostname -I; echo $SSH_CONNECTION").ok().out
    assert "10.77.1.2" in out
    assert "10.77.2.2" in out, "the agent must see the client's own address, not the proxy's"
    assert alice.ssh(f"{OS_USER}@far.demo", "echo plain-ssh").ok().out == "plain-ssh\n"
    for target, port in (
        ("10.77.1.1", cluster.auth_port),
        ("10.77.1.1", cluster.ssh_port),
        ("10.77.1.2", 22),
    ):
        probe = run(*inside(CLIENT), "timeout", "1", "bash", "-c", f"echo > /dev/tcp/{target}/{port}")
        assert probe.code != 0


def test_a12_a_role_counts_by_the_clients_own_network(cluster: Cluster) -> None:
    """Not by the proxy's, through which the connection comes to the agent and to the Auth Service."""
    for name, network in (("from-client", "10.77.2.0/24"), ("from-proxy", "10.77.1.0/24")):
        cluster.tctl(
            "create", "-f",
            stdin=f"kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec:\n  allow:\n"
            f"    logins: [{OS_USER}]\n    node_labels: {{'*': '*'}}\n    from: [{network}]\n",
        ).ok()  # fmt: skip
    near = cluster.person("nora", roles="from-client", inside=inside(CLIENT))
    near.login().ok()
    assert near.tsh("ssh", f"{OS_USER}@far", "echo in").ok().out == "in\n"
    assert near.ssh(f"{OS_USER}@far.demo", "echo in").ok().out == "in\n"
    assert "far" in near.tsh("ls").ok().out
    other = cluster.person("olaf", roles="from-proxy", inside=inside(CLIENT))
    other.login().ok()
    assert other.tsh("ssh", f"{OS_USER}@far", "true").code != 0
    assert other.ssh(f"{OS_USER}@far.demo", "true").code != 0
    assert "far" not in other.tsh("ls").ok().out


def test_f10_a_partition_heals_by_itself(cluster: Cluster) -> None:
    """The agent's link is cut without a FIN; when it returns, so does the agent."""
    bob = cluster.person("bob", inside=inside(CLIENT))
    bob.login().ok()
    run(*inside(SERVER), "ip", "link", "set", f"{TAG}v1", "down").ok()
    began = time.monotonic()
    cut = bob.tsh("ssh", f"{OS_USER}@far", "true", timeout=90)
    assert cut.code != 0
    assert "Traceback" not in cut.err
    assert "did not answer" in cut.err or "not connected" in cut.err, cut.err
    assert time.monotonic() - began < 12, "the user is told within seconds"

    def noticed() -> bool:
        return "not connected" in bob.tsh("ssh", f"{OS_USER}@far", "true", timeout=90).err

    wait_for(noticed, what="the proxy to notice the loss", deadline_s=25, every_s=0.5)
    run(*inside(SERVER), "ip", "link", "set", f"{TAG}v1", "up").ok()

    def back() -> bool:
        return bob.tsh("ssh", f"{OS_USER}@far", "echo healed", timeout=90).out == "healed\n"

    wait_for(back, what="the agent to be reachable again", deadline_s=15, every_s=0.5)


def test_f11_a_partition_of_one_direction_is_noticed_and_heals(cluster: Cluster) -> None:
    """The agent still sends, and hears nothing: no tunnel stays that leads nowhere."""
    ida = cluster.person("ida", inside=inside(CLIENT))
    ida.login().ok()
    assert ida.tsh("ssh", f"{OS_USER}@far", "echo before").ok().out == "before\n"
    run(
        *inside(AGENT), "nft", "-f", "-",
        stdin="table inet oneway {\n  chain in {\n    type filter hook input priority -10; policy accept;\n"
        "    ip saddr 10.77.1.1 drop\n  }\n}\n",
    ).ok()  # fmt: skip
    try:

        def noticed() -> bool:
            answer = ida.tsh("ssh", f"{OS_USER}@far", "true", timeout=90)
            assert answer.code != 0
            return "not connected" in answer.err

        wait_for(noticed, what="the proxy to notice the loss", deadline_s=40, every_s=0.5)
    finally:
        run(*inside(AGENT), "nft", "delete", "table", "inet", "oneway").ok()

    def back() -> bool:
        return ida.tsh("ssh", f"{OS_USER}@far", "echo healed", timeout=90).out == "healed\n"

    wait_for(back, what="the agent to be reachable again", deadline_s=30, every_s=0.5)


def test_f10_a_session_and_an_upload_go_on_when_the_network_drops_everything_for_a_while(
    cluster: Cluster,
) -> None:
    """Longer than a client waits for an acknowledgement before it connects again."""
    eve = cluster.person("eve", inside=inside(CLIENT))
    eve.login().ok()
    argv = [*eve.inside, "ssh", "-F", str(eve.ssh_config()), f"{OS_USER}@far.demo"]
    shell, upload = (
        subprocess.Popen(
            [*argv, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=eve.env,
        )
        for command in ("cat", "sha256sum")
    )
    data = random.Random(10).randbytes(20_000_000)
    with shell, upload:
        try:
            assert shell.stdin and shell.stdout and upload.stdin and upload.stdout
            shell.stdin.write(b"before\n")
            shell.stdin.flush()
            assert shell.stdout.readline() == b"before\n"
            upload.stdin.write(data[:8_000_000])
            upload.stdin.flush()
            run(*inside(CLIENT), "nft", "-f", "-", stdin=DROP_ALL).ok()
            try:
                writer = threading.Thread(target=upload.stdin.write, args=(data[8_000_000:],))
                writer.start()
                shell.stdin.write(b"meanwhile\n")
                shell.stdin.flush()
                # Until the upload's client has given its connection up, and dials in vain.
                wait_for(lambda: dialling(CLIENT), what="the client to connect again", deadline_s=40)
            finally:
                run(*inside(CLIENT), "nft", "delete", "table", "inet", "cut").ok()
            assert shell.stdout.readline() == b"meanwhile\n"
            writer.join(30)
            upload.stdin.close()
            assert upload.stdout.read().decode().split() == [hashlib.sha256(data).hexdigest(), "-"]
            shell.stdin.close()
            assert shell.wait(10) == upload.wait(10) == 0
            assert "a connection is resumed" in cluster.log("far")
        finally:
            shell.kill()
            upload.kill()


DROP_ALL = """table inet cut {
  chain in { type filter hook input priority -20; policy accept; iif != lo drop; }
  chain out { type filter hook output priority -20; policy accept; oif != lo drop; }
}
"""


def dialling(namespace: str) -> bool:
    """Whether a connection there waits for its first answer."""
    return bool(run(*inside(namespace), "ss", "-Htn", "state", "syn-sent").ok().out)
