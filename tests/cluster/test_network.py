"""A search over three nodes with addresses of their own, and the servers of a cluster."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def test_all_nodes_train_and_the_table_is_that_of_one_machine(net, net_space, undisturbed):
    name = "whole"
    output, _ = (driver := net.search(net_space, name)).communicate(timeout=200)
    assert driver.returncode == 0, output
    assert "6 trials to go, 3 at once" in output
    net.check(name, undisturbed)
    trials = net.trials(name)
    assert {trial.facts["node"] for trial in trials} == {host.address for host in net.hosts}
    assert len({trial.facts["node_id"] for trial in trials}) == len(net.hosts)
    assert not [trial.facts["stage_problem"] for trial in trials if "stage_problem" in trial.facts]
