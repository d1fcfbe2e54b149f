"""Ansible and many ssh through one multiplexer, which follows the login it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, Cluster, Person, run
from tests.harness.fleet import answers, multiplexer, start_fleet
from tests.harness.wait import wait_for

HOST = f"{OS_USER}@demo-node.demo"


@pytest.fixture
def config(alice: Person) -> Path:
    path = alice.home / "multiplexed"
    path.write_text(alice.tsh("config", "--multiplex").ok().out)
    return path


@pytest.fixture(scope="module")
def fleet(cluster: Cluster) -> list[str]:
    return start_fleet(cluster, agents=2, names_each=25)


def test_ssh_goes_through_it_while_it_runs_and_without_it_when_not(alice: Person, config: Path) -> None:
    # With a broken tsh in the configuration only the multiplexer's way can work.
    through = config.with_name("only-multiplexed")
    through.write_text(config.read_text().replace(" proxy ssh --cluster", " nothing ssh --cluster"))
    with multiplexer(alice) as running:
        assert run("ssh", "-F", through, HOST, "cat; exit 3", env=alice.env, stdin="in").out == "in"
        assert run("ssh", "-F", through, HOST, "exit 3", env=alice.env).code == 3
        refused = run("ssh", "-F", through, f"{OS_USER}@nosuch.demo", "true", env=alice.env)
        assert refused.code == 255
        assert "no server 'nosuch'" in refused.err
        second = alice.tsh("proxy", "ssh-multiplex")
        assert second.code == 1
        assert "already runs" in second.err
        assert running.alive()
    assert run("ssh", "-F", through, HOST, "true", env=alice.env).code == 255
    assert run("ssh", "-F", config, HOST, "echo plain", env=alice.env).ok().out == "plain\n"


def test_it_dies_without_harm_and_its_place_is_taken_again(alice: Person, config: Path) -> None:
    with multiplexer(alice) as running:
        running.kill()
    refused = run("ssh", "-F", config, HOST, "true", env=alice.env)
    assert refused.code == 255
    assert "start it with 'tsh proxy ssh-multiplex'" in refused.err
    with multiplexer(alice):
        run("ssh", "-F", config, HOST, "true", env=alice.env).ok()


def test_it_follows_the_login(cluster: Cluster) -> None:
    bob = cluster.login("bob")
    config = bob.home / "multiplexed"
    config.write_text(bob.tsh("config", "--multiplex").ok().out)
    with multiplexer(bob) as running:
        run("ssh", "-F", config, HOST, "true", env=bob.env).ok()
        bob.login().ok()
        run("ssh", "-F", config, HOST, "true", env=bob.env).ok()
        cluster.tctl("lock", "--user=bob", "--message=enough").ok()

        def refused() -> bool:
            return run("ssh", "-F", config, HOST, "true", env=bob.env).code == 255

        # What is kept ready was made before the lock, and is of no use after it.
        wait_for(refused, what="the lock to be in force", deadline_s=5)
        bob.tsh("logout").ok()
        assert answers(bob)  # by saying that there is no login
        assert running.process is not None
        assert running.process.wait(10) == 0


@pytest.mark.needs("ansible")
def test_ansible_visits_fifty_hosts_at_once(
    alice: Person, fleet: list[str], config: Path, tmp_path: Path
) -> None:
    inventory = tmp_path / "inventory"
    inventory.write_text("".join(f"{name}\n" for name in fleet))
    env = {
        **alice.env,
        "ANSIBLE_SSH_ARGS": f"-F {config}",
        "ANSIBLE_REMOTE_USER": OS_USER,
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
        "ANSIBLE_FORKS": "50",
    }
    with multiplexer(alice):
        argv = ("ansible", "-i", inventory, "all", "-m", "raw", "-a", "hostname; echo visited")
        out = run(*argv, env=env, timeout=120).ok().out
        assert out.count("visited") == 50
