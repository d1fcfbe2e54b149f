"""Filling a recording must not be a way to go on unseen, nor to fill the disks of the cluster (A61, F22)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pkgs.common.recording import limits
from tests.integration.ssh_kit import SshNode, ended, recording_of

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.mark.parametrize("limit", ["FULL_RAW", "FULL_STORED"])
def test_a61_a_session_ends_with_its_full_recording(
    node: SshNode, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(limits, limit, 300_000)
    done = node.user("flo").ssh("cat /dev/urandom", before=("-tt",), stdin=b"", timeout=30)
    assert done.returncode == 255
    assert b"reached its limit" in done.stderr
    recorded = recording_of(node, "flo")
    assert len(recorded.output) >= 250_000
    assert recorded.meta.interactive
    assert ended(node, "flo").fields["session_recording"] == "node"
