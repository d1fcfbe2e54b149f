"""One cluster per test module; a test that kills things makes its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.cluster import Cluster, Person


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        yield made


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> Person:
    return cluster.login("alice", roles="access,editor,auditor")


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster that the test may break; not started yet."""
    made = Cluster()
    try:
        yield made
    finally:
        made.destroy()
