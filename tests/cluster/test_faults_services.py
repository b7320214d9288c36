"""PostgreSQL, MLflow's server or the S3 server goes away: the same table, and nothing is lost."""

from __future__ import annotations

import time

import pytest

from .netcluster import all_train, held

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SECONDS = 300


def test_a_restarted_postgresql_costs_nothing(net, net_space, undisturbed):
    name = "postgres"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.postgres.stop()
    time.sleep(5)
    net.postgres.start()
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(name, undisturbed)


def test_a_minute_without_mlflow_costs_nothing(net, net_space, undisturbed):
    name = "mlflow"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.tracking.kill()
    begun = time.monotonic()
    net.wait_for(name, lambda trials: any(trial.state == "finished" for trial in trials))
    with held(net.hosts) as count:  # a search must not end before the outage
        assert count
        time.sleep(max(0.0, begun + 60 - time.monotonic()))
        net.tracking.start()
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    assert "warning" not in output, output
    net.check(name, undisturbed)


def test_a_minute_in_which_s3_refuses_costs_no_epoch(net, net_space, undisturbed):
    name = "s3"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.objects.refuse(now=True)
    epochs = [sum(len(trial.epochs) for trial in net.trials(name))]
    for _ in range(4):
        time.sleep(15)
        epochs.append(sum(len(trial.epochs) for trial in net.trials(name)))
    ended = driver.poll() is not None
    net.objects.refuse(now=False)
    output, _ = driver.communicate(timeout=SECONDS)
    print(epochs, ended, output)
    assert epochs[-1] >= epochs[0] + 12, "nobody trained meanwhile"
    assert driver.returncode == 0, output
    net.check(name, undisturbed)
