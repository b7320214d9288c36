"""A search over three nodes with addresses of their own, and the servers of a cluster."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def test_all_nodes_train_and_the_table_is_that_of_one_machine(
    net, net_space, undisturbed, tmp_path
):
    store = tmp_path / "whole"
    output, _ = (driver := net.search(net_space, store)).communicate(timeout=200)
    assert driver.returncode == 0, output
    assert "6 trials to go, 3 at once" in output
    net.check(store, undisturbed)
    trials = net.trials(store.name)
    assert {trial.facts["node"] for trial in trials} == {host.address for host in net.hosts}
    assert len({trial.facts["node_id"] for trial in trials}) == len(net.hosts)
    assert not [trial.facts["stage_problem"] for trial in trials if "stage_problem" in trial.facts]
