"""Several logins side by side, and renewing one on the way, without second factors to wait for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.harness.cluster import BIN, OS_USER, PASSWORD, Cluster, Person, run
from tests.harness.wait import wait_for
from tests.integration.terminal import Terminal


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    motd = {"auth_service": {"message_of_the_day": "Be kind.\x1b[2J"}}
    with Cluster.running(second_factor="off", services=("auth", "proxy"), overrides=motd) as made:
        yield made


def test_two_profiles_are_kept_apart(cluster: Cluster) -> None:
    first = cluster.login("ann")
    second = Person("ben", first.home, cluster)
    second.tsh("signup", cluster.invite("ben"), "--insecure", "--password-stdin", stdin=PASSWORD + "\n").ok()
    addr = f"localhost:{cluster.web_port}"
    second.tsh(
        "login", f"--proxy={addr}", "--user=ben", "--insecure", "--password-stdin", stdin=PASSWORD + "\n"
    ).ok()
    status = json.loads(first.tsh("status", "--format=json").ok().out)
    assert status["active"]["username"] == "ben"
    assert [profile["username"] for profile in status["profiles"]] == ["ann"]
    one = first.tsh("status", "--proxy=127.0.0.1").ok().out
    assert "Logged in as:      ann" in one.split("\n\n")[0]
    env = {**first.env, "TELEPORT_PROXY": "127.0.0.1"}
    assert "ann" in run(BIN / "tsh", "status", env=env).ok().out.split("\n\n")[0]
    assert json.loads(first.tsh("ls", "-R", "--format=json").ok().out) == []
    header = first.tsh("ls", "-R").ok().out.splitlines()[0].split()
    assert header[:2] == ["Proxy", "Cluster"]
    blocks = [line for line in first.tsh("config").ok().out.splitlines() if line.startswith("Host ")]
    assert blocks == [
        "Host *.demo localhost", "Host *.demo !localhost", "Host *.demo 127.0.0.1", "Host *.demo !127.0.0.1"
    ]  # fmt: skip
    assert "localhost" not in first.tsh("config", "--proxy=127.0.0.1").ok().out
    # A login that still holds is switched to, not asked for.
    first.tsh("login", f"--proxy={cluster.proxy_addr}", "--insecure").ok()
    assert json.loads(first.tsh("status", "--format=json").ok().out)["active"]["username"] == "ann"
    refused = first.tsh("logout", "--proxy=127.0.0.1", "--user=ben")
    assert refused.code == 2
    first.tsh("logout", "--user=ann").ok()
    assert "ben" in first.tsh("status", "--proxy=localhost").ok().out
    known = (first.home / ".tsh" / "known_hosts").read_text()
    assert known.count("@cert-authority") == 1


def test_identity_of_a_login(cluster: Cluster) -> None:
    person = cluster.person("cid")
    out = person.home / "id"
    person.login(f"--out={out}").ok()
    assert not (person.home / ".tsh").exists()
    words = ("-i", str(out), f"--proxy={cluster.proxy_addr}")
    assert person.tsh(*words, "ls", "--format=names").ok().out == ""
    assert "Logged in as:      cid" in person.tsh(*words, "status").ok().out
    assert person.tsh(*words, "config").code == 2
    assert person.login(f"--out={out}").code == 1
    person.login(f"--out={out}", "--overwrite", "--format=openssh").ok()
    assert (person.home / "id-cert.pub").read_text().startswith("ssh-ed25519-cert-v01@openssh.com ")


def test_a_login_is_capped_and_asked_shorter(cluster: Cluster) -> None:
    person = cluster.person("dan")
    assert "[valid for 9m]" in person.login("--ttl=10").ok().out
    assert person.login("--ttl=x").code == 2


def test_an_expired_login_is_renewed_at_a_terminal_or_says_how(cluster: Cluster) -> None:
    cluster.tctl(
        "create", "-f",
        stdin="kind: role\nversion: v7\nmetadata: {name: brief}\n"
        "spec:\n  options: {max_session_ttl: 2s}\n"
        f"  allow: {{logins: ['{OS_USER}'], node_labels: {{'*': '*'}}}}\n",
    ).ok()  # fmt: skip
    person = cluster.person("eva", roles="brief")
    person.login().ok()
    wait_for(lambda: person.tsh("status").code == 1, what="the login to expire", every_s=0.2)
    words = ("--insecure", "ssh", f"{OS_USER}@nowhere", "true")
    said = person.tsh(*words)
    assert said.code == 1
    assert "expired" in said.err and "tsh login --proxy=" in said.err
    screen = Terminal([str(BIN / "tsh"), *words], person.env)
    screen.expect("has expired")
    screen.expect("Press [ENTER]")
    screen.type("")
    screen.expect("Password of eva")
    screen.type(PASSWORD)
    screen.expect("Logged in to demo again")
    assert screen.end() == 255
    assert "nowhere" in screen.shown
    wait_for(lambda: person.tsh("status").code == 1, what="the login to expire", every_s=0.2)
    screen = Terminal([str(BIN / "tsh"), *words[:2], "--no-relogin", *words[2:]], person.env)
    assert screen.end() == 1


def test_the_message_of_the_day_is_shown_and_acknowledged(cluster: Cluster) -> None:
    person = cluster.person("fay")
    done = person.login().ok()
    assert "Be kind.\\x1b[2J" in done.err
    assert "\x1b" not in done.err
    screen = Terminal(
        [
            str(BIN / "tsh"),
            "login",
            f"--proxy={cluster.proxy_addr}",
            "--user=fay",
            "--insecure",
            "--force",
        ],
        person.env,
    )
    screen.expect("Press [ENTER]")
    screen.type("")
    screen.expect("Password of fay")
    screen.type(PASSWORD)
    assert screen.end() == 0


@pytest.mark.needs("bash")
def test_shell_completion(cluster: Cluster) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TELEPORT_")}
    script = run(BIN / "tsh", "--show-completion", "bash", env={**env, "SHELL": "/bin/bash"})
    assert "_TSH_COMPLETE=complete_bash" in script.out + script.err, script

    def complete(*words: str) -> list[str]:
        asked = {
            "_TSH_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        return run(BIN / "tsh", env={**env, **asked}).out.split()

    assert {"login", "ls", "ssh", "recordings"} <= set(complete("tsh", ""))
    assert complete("tsh", "recordings", "e") == ["export"]
    assert "--skip-idle-time" in complete("tsh", "play", "--")
    assert complete("tsh", "ls", "--format", "n") == ["names"]
