"""What a driver makes of lost nodes and of memory that runs out; workers are simulated."""

from __future__ import annotations

from pathlib import Path

from sqtune.search.mishaps import MAX_LOST_NODES, MAX_WORKER_DEATHS, Death, Mishaps

from . import test_driver as simulated

begin, Leg, states = simulated.begin, simulated.Leg, simulated.states


def test_nodes_that_go_do_not_count_as_its_workers_deaths(begin) -> None:
    search = begin("search.num_trials=1")
    for _ in range(MAX_LOST_NODES - 1):
        search.driver.on_death(search.driver.next_trial().number, Death("node"))
    for _ in range(MAX_WORKER_DEATHS):
        search.driver.on_death(search.driver.next_trial().number, Death("worker"))
    assert states(search) == {0: "running"}
    gone = {"number": search.driver.next_trial().number, "epochs": [], "node_id": "a"}
    assert not search.driver.on_report(gone)
    search.driver.on_death(0, Death("worker", alive=frozenset({"b"})))  # its last word
    assert states(search) == {0: "running"}
    last = Death("node", "it was preempted", frozenset({"b"}))
    search.driver.on_death(search.driver.next_trial().number, last)
    assert states(search) == {0: "failed"}  # it is the end of every node
    assert f"{MAX_LOST_NODES + 1} nodes went" in search.study.trial(0).failure


def test_a_node_out_of_memory_is_named_as_the_reason(begin) -> None:
    search = begin("search.num_trials=1")
    search.driver.on_death(search.driver.next_trial().number, Death("worker"))
    for _ in range(MAX_WORKER_DEATHS):
        leg = search.driver.next_trial()
        search.driver.on_death(leg.number, Death("memory", "the node was low on memory"))
    assert states(search) == {0: "failed"}
    assert "the node was low on memory. Give fewer trials" in search.study.trial(0).failure


def test_a_larger_share_finds_room_before_anything_else_begins(begin) -> None:
    search = begin("search.num_trials=6")
    search.driver.mishaps.gpus = 0.4
    legs = [search.driver.next_trial(), search.driver.next_trial()]
    assert [leg.gpus for leg in legs] == [0.4, 0.4]
    shortage = {"number": legs[0].number, "epochs": [], "out_of_memory": {"why": "no 2 GiB"}}
    assert search.driver.on_report(shortage)
    again = search.driver.next_trial()
    assert (again.number, again.gpus) == (legs[0].number, 0.8)
    assert search.driver.next_trial() == "wait"
    Leg(search, legs[1], []).advance()
    assert search.driver.next_trial() == "wait"  # it has not begun
    Leg(search, again, []).advance()
    assert search.driver.next_trial().gpus == 0.4
    assert search.driver.on_report(shortage)
    failure = search.study.trial(legs[0].number).failure
    assert failure.startswith("it ran out of GPU memory with 0.8 of a GPU, before that with 0.4. ")
    assert "(resources.gpus). no 2 GiB" in failure


def test_a_trial_that_has_a_whole_gpu_fails_at_once(begin) -> None:
    search = begin("search.num_trials=1")
    search.driver.mishaps.gpus = 1.0
    search.driver.next_trial()
    taken = {"gpu": "T4", "peak_bytes": 2**34, "total_bytes": 2**34, "why": "no 2 GiB"}
    assert search.driver.on_report({"number": 0, "epochs": [], "out_of_memory": taken})
    assert states(search) == {0: "failed"}
    assert "16,384 MiB of the 16,384 MiB of T4" in search.study.trial(0).failure
    assert "resources.gpus" not in search.study.trial(0).failure


def test_nodes_that_go_in_different_epochs_fail_no_trial() -> None:
    mishaps = Mishaps(1.0, print)
    for epoch in range(3 * MAX_LOST_NODES):
        assert mishaps.died(0, Death("node"), epoch, Path("log")) is None


def test_a_larger_share_is_at_most_a_whole_gpu() -> None:
    mishaps = Mishaps(0.6, print)
    assert mishaps.ran_out(0, {"why": "no 2 GiB"}) is None
    assert mishaps.gpus_of(0) == 1.0
