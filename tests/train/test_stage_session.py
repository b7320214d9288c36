"""What a training leaves in the store, what it claims, and when it finds a stage busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from staged import WARM_UP, config, session

from sqtune.config import TrialConfig
from sqtune.config.training import Optimizer
from sqtune.errors import StageBusy
from sqtune.quant import Exponential, Float, Stages, Ternary
from sqtune.train.loop import StageSession, train
from sqtune.train.stages import epoch_keys, stage_ends


def stored(stages: StageSession, settings: TrialConfig, digits) -> dict[int, bool]:
    """Return the epochs that are stored, and whether each stays."""
    keys = epoch_keys(settings, digits.fingerprint, num_threads=1)
    kinds = {entry.key: not entry.rolling for entry in stages.store.entries()}
    return {epoch: kinds[key] for epoch, key in enumerate(keys, 1) if key in kinds}


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_stage_ends_stay_and_the_others_give_way_to_the_next(digits, tmp_path, place):
    settings = config(schedule=Exponential(num_stages=2), num_epochs=8)
    assert stage_ends(settings) == (4, 8)
    at = str(tmp_path / "s") if place == "folder" else f"memory://{tmp_path}/s"
    stages = session(at, keep=(2,))
    seen = []
    for _ in train(settings, splits=digits, num_threads=1, stages=stages):
        seen.append(stored(stages, settings, digits))
    assert seen == [
        {1: False},
        {2: True},
        {2: True, 3: False},
        {2: True, 4: True},
        {2: True, 4: True, 5: False},
        {2: True, 4: True, 6: False},
        {2: True, 4: True, 7: False},
        {2: True, 4: True, 8: True},
    ]
    assert not [each.name for each in stages.store._files.listed() if "claim" in each.name]


def test_a_resumed_training_replaces_its_own_last_checkpoint(digits, tmp_path):
    settings, stages = config(schedule=Stages()), session(tmp_path)
    broken = train(settings, splits=digits, num_threads=1, stages=stages)
    next(broken), next(broken)
    broken.close()
    assert stored(stages, settings, digits) == {2: False}
    resumed = train(settings, splits=digits, num_threads=1, stages=stages)
    seen = []
    for _ in resumed:
        seen.append(stored(stages, settings, digits))
    assert seen == [{2: False}, {2: False}, {3: False}, {4: True}]


def test_a_stage_end_stays_though_another_training_passes_through_it(digits, tmp_path):
    """The float baseline has no stage that ends with the warm-up; the other training keeps it."""
    baseline, low = config(quantizer=Float()), config(schedule=WARM_UP)
    running = train(baseline, splits=digits, num_threads=1, stages=session(tmp_path, "study:1"))
    next(running), next(running)
    second = session(tmp_path, "study:2")
    results = train(low, splits=digits, num_threads=1, stages=second)
    assert next(results).restored
    results.close()
    next(running)
    running.close()
    assert stored(second, low, digits) == {2: True}


def busy(results: Iterator) -> StageBusy:
    with pytest.raises(StageBusy) as caught:
        next(results)
    return caught.value


def test_a_stage_that_another_trains_is_busy_and_then_free(digits, tmp_path):
    one, other = config(schedule=WARM_UP), config(schedule=WARM_UP, quantizer=Ternary())
    first, second = session(tmp_path, "study:1"), session(tmp_path, "study:2")
    keys = epoch_keys(other, digits.fingerprint, num_threads=1)
    running = train(one, splits=digits, num_threads=1, stages=first)
    assert next(running).epoch == 1
    error = busy(train(other, splits=digits, num_threads=1, stages=second))
    assert (error.key, error.owner) == (keys[1], "study:1")
    assert "study:1" in str(error)
    assert next(running).epoch == 2  # the warm-up has ended: both may go on, each its own way
    results = train(other, splits=digits, num_threads=1, stages=second)
    assert [next(results).restored for _ in range(3)] == [True, True, False]
    assert len(list(running)) == 2
    assert len(list(results)) == 1
    assert second.problem is None


def test_a_training_that_breaks_off_or_fails_gives_its_claim_back(digits, tmp_path):
    broken = train(config(), splits=digits, num_threads=1, stages=session(tmp_path, "study:1"))
    next(broken)
    broken.close()
    diverging = config(optimizer=Optimizer(lr=1e30))
    with pytest.raises(Exception, match="Lower the learning rate"):
        list(train(diverging, splits=digits, num_threads=1, stages=session(tmp_path, "study:1")))
    assert list(tmp_path.glob("*.claim")) == []
    assert next(
        train(config(), splits=digits, num_threads=1, stages=session(tmp_path, "study:2"))
    ).restored
