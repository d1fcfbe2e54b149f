"""Proxy templates with two logins side by side, by the real programs: which proxy is asked, and for what."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.clients.tsh.profile import home
from tests.integration.clients_kit import FakeCluster, node
from tests.integration.tsh_kit import OPENSSH, OWN, TSH, TshNode

TEMPLATES = r"""
proxy_templates:
- {template: '^(\w+)\.eu:', proxy: 'localhost:1', host: '$1'}
- {template: '^(\w+)\.web:', query: 'labels["env"] == "$1"'}
- {template: '^(\w+)\.word:', search: '$1'}
- {template: '^node\.port:', host: 'node:77'}
- {template: '^node(\.demo)?:', host: wrong}
"""


def second_login(cluster: FakeCluster) -> None:
    """The login as stored for 127.0.0.1 goes nowhere; that for localhost is the cluster's."""
    where, keys = cluster.home, cluster.home / "keys"
    shutil.copytree(keys / "127.0.0.1", keys / "localhost")
    profile = home.load(str(where), "127.0.0.1")
    good = home.Profile("localhost", profile.web_proxy_addr, profile.user, profile.cluster)
    bad = home.Profile("127.0.0.1", "127.0.0.1:1", profile.user, profile.cluster)
    for each in (good, bad):
        (where / f"{each.name}.yaml").write_text(home.render(each))


def run(made: TshNode, client: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([TSH, *words], capture_output=True, timeout=60, env=made.env(client))


def configure(cluster: FakeCluster, text: str) -> None:
    path = cluster.home / "config" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path) as made:
        configure(made, TEMPLATES)
        yield made


def test_proxy_ssh_goes_where_templates_say(cluster: FakeCluster) -> None:
    cluster.resources = [node("one", env="dev"), node("two", env="prod"), node("three", env="prod")]

    def target(*words: str) -> str:
        cluster.dials.clear()
        done = cluster.run("tsh", "proxy", "ssh", "--no-resume", *words, stdin=b"hello")
        assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr
        return cluster.dials[-1].target

    assert target("root@one.elsewhere") == "one.elsewhere"
    assert target("root@dev.web") == node("one").metadata.name
    assert target("root@dev.word") == node("one").metadata.name
    assert target("root@node.port:22") == "node:77"
    assert target("-J", "none", "root@node.port:22") == "node.port:22"
    assert target("-J", "{{proxy}}", "root@node.port") == "node:77"
    refused = cluster.run("tsh", "proxy", "ssh", "root@prod.web")
    assert refused.returncode == 2 and b"ambiguous" in refused.stderr
    refused = cluster.run("tsh", "proxy", "ssh", "root@nothing.word")
    assert refused.returncode == 1 and b"no server matches 'nothing'" in refused.stderr
    refused = cluster.run("tsh", "proxy", "ssh", "-J", "{{proxy}}", "root@one.elsewhere")
    assert refused.returncode == 2 and b"no proxy template matches 'one.elsewhere:3022'" in refused.stderr
    second_login(cluster)
    assert cluster.run("tsh", "proxy", "ssh", "--no-resume", "root@one").returncode != 0
    assert target("root@one.eu:22") == "one:22"
    assert target("-J", "localhost", "root@one") == "one"
    configure(cluster, "proxy_template: []")
    refused = cluster.run("tsh", "proxy", "ssh", "root@one")
    assert refused.returncode == 2 and b"did you mean proxy_templates?" in refused.stderr


@pytest.mark.needs("ssh", "scp")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
def test_ssh_and_scp_go_there_by_either_client(tmp_path: Path) -> None:
    with TshNode.running(tmp_path) as made:
        made.log_in(made.node.user("alice"))
        second_login(made.cluster)
        # The last would send what tsh starts for itself astray, were it applied a second time.
        configure(made.cluster, TEMPLATES)
        for client in (OPENSSH, OWN):
            done = run(made, client, "ssh", "root@node.eu", "echo there")
            assert (done.returncode, done.stdout) == (0, b"there\n"), done.stderr
        source = tmp_path / "file"
        source.write_text("content")
        done = run(made, OPENSSH, "scp", str(source), f"root@node.eu:{tmp_path}/copy")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "copy").read_text() == "content"
        done = run(made, OPENSSH, "scp", "-J", "{{proxy}}", "root@x.y.z:/a", "root@node.eu:/b")
        assert done.returncode == 2 and b"no proxy template matches" in done.stderr
        done = run(made, OPENSSH, "scp", "root@x.y.z:/a", "root@node.eu:/b")
        assert done.returncode == 2 and b"different proxies" in done.stderr
