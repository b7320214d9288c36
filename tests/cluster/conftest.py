"""One cluster of namespaces for all tests that need one; each finds it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from search.conftest import searched_table, written

from .netcluster import SPACE, NetCluster, Table, missing, net_cluster


@pytest.fixture(scope="session")
def net_space(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("space"), SPACE)


@pytest.fixture(scope="session")
def undisturbed(net_space, tmp_path_factory) -> Table:
    """Return the table of the same search on this machine alone."""
    if reason := missing():
        pytest.skip(reason)
    return searched_table(net_space, tmp_path_factory.mktemp("alone") / "store")


@pytest.fixture(scope="session")
def one_net(undisturbed) -> Iterator[NetCluster]:
    with net_cluster() as found:
        yield found


@pytest.fixture
def net(one_net) -> NetCluster:
    """Return a cluster that runs; a test may break it."""
    one_net.mend()
    return one_net
