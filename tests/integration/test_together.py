"""Sessions of several people: real OpenSSH clients on terminals, one node, policies of roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ssh_kit import SshNode, ended, recording_of, wait_until
from tests.integration.together_kit import at_terminal, joining, live, prepare


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as made:
        prepare(made)
        yield made


def test_an_observer_sees_what_was_and_what_comes_and_types_nothing(node: SshNode) -> None:
    alice, bob = node.user("alice1"), node.user("bob", roles=("watcher",))
    with at_terminal(alice, "PS1='$ ' sh") as owner:
        owner.type("echo be''fore")
        owner.expect("before")
        with joining(bob, live(node, "alice1"), "observer") as watcher:
            watcher.expect("You joined the session of alice1 as root as observer")
            watcher.expect("before")
            owner.expect("bob joined the session as observer")
            watcher.type("echo in''truder")
            owner.type("echo af''ter")
            watcher.expect("after")
            assert "intruder" not in owner.shown
            watcher.type("\x03", end="")
            watcher.expect("You left the session")
            assert watcher.end() == 0
            owner.expect("bob left the session")
        owner.type("exit")
        assert owner.end() == 0
    assert ended(node, "alice1").fields["participants"] == ["alice1", "bob"]
    assert ended(node, "bob", "session.join").fields["participant_mode"] == "observer"
    assert ended(node, "bob", "session.leave").fields["sid"] == ended(node, "alice1").fields["sid"]
    kept = recording_of(node, "alice1")
    assert kept.marks == ["join", "leave"]
    assert b"Teleport >" not in kept.output


def test_a_peer_types_and_reads_along_without_a_recording(node: SshNode) -> None:
    node.record("off")
    try:
        with at_terminal(node.user("alice2"), "PS1='$ ' sh") as owner:
            with joining(node.user("carl", roles=("pair",)), live(node, "alice2"), "peer") as peer:
                peer.expect("as peer")
                peer.type("echo from''carl")
                owner.expect("fromcarl")
                peer.expect("fromcarl")
                peer.type("exit")
                peer.expect("The session has ended")
                assert peer.end() == 0
            assert owner.end() == 0
    finally:
        node.record("node")
