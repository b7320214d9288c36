"""What a study tries next: points, grids, each sampler, and what it does when there is no more."""

from __future__ import annotations

import importlib.util
from itertools import islice
from pathlib import Path

import pytest

from sqtune.config.options import SearchOptions, Target
from sqtune.config.space import SearchSpace
from sqtune.errors import ConfigError
from sqtune.search import propose
from sqtune.search.fit import nearest
from sqtune.search.stored import DUPLICATE_OF
from sqtune.store import Store

from .studies import asked, finish, new_store, on_digits, opened, space_of

SPACE = """\
trial: {network: {name: resnet8, width: 4}, num_epochs: 4}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {int: [2, 4], when: {quantizer.name: uniform}}
  schedule: {choice: [{name: linear}, {name: average, num_stages: 3}]}
  optimizer.lr: {float: [0.02, 0.3], log: true}
  optimizer.momentum: {float: [0.5, 0.9], step: 0.1}
points:
  - {quantizer.name: uniform, quantizer.bits: 4, schedule: {name: linear}, optimizer.lr: 0.25,
     optimizer.momentum: 0.7}
  - {schedule: {name: average, num_stages: 3}}
search: {num_trials: 5, sampler: SAMPLER, seed: 3}
"""
SAMPLERS = ("tpe", "random", "qmc", "nsga2", "nsga3", "cmaes", "gp")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "store")


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return space_of(tmp_path, SPACE.replace("SAMPLER", "random"))


def with_search(space: SearchSpace, **options: object) -> SearchSpace:
    search = SearchOptions.model_validate({**space.search.model_dump(), **options})
    return space.model_copy(update={"search": search})


def test_points_come_first_and_once_however_often_the_study_is_opened(store, space):
    opened(store, space)
    study = opened(store, space)
    assert study.trials() == []  # nobody asked for them yet
    whole, partial, sampled = asked(study), asked(study), asked(study)
    assert (whole.number, partial.number, sampled.number) == (0, 1, 2)
    assert whole.values == {
        "quantizer.name": "uniform",
        "quantizer.bits": 4,
        "schedule": "linear",
        "optimizer.lr": 0.25,
        "optimizer.momentum": 0.7,
    }
    assert whole.config.optimizer.lr == 0.25
    assert partial.values["schedule"] == "average num_stages=3"
    assert partial.config.schedule.num_stages == 3
    assert len({trial.values["optimizer.lr"] for trial in (whole, partial, sampled)}) == 3

    more = [{"optimizer.lr": 0.2}, *space.points]
    study = opened(store, space.model_copy(update={"points": more}))
    assert [asked(study).values for _ in range(3)] == [
        trial.values for trial in (whole, partial, sampled)
    ]
    new = asked(study)
    assert (new.number, new.values["optimizer.lr"]) == (3, 0.2)
    assert asked(study).values["optimizer.lr"] != 0.2


def test_the_same_point_in_other_words_is_the_same(store, space):
    points = [{"optimizer.lr": 0.2, "quantizer.name": "binary"}, {"optimizer.momentum": 0.5}]
    study = opened(store, space.model_copy(update={"points": points}))
    asked(study)
    reordered = [{"quantizer.name": "binary", "optimizer.lr": 0.2}, *points]
    opened(store, space.model_copy(update={"points": reordered}))
    assert len(study._study.trials) == 2


def test_a_trial_drawn_at_once_has_the_values_of_one_sampled_value_by_value(tmp_path, space):
    by_value = opened(new_store(tmp_path / "a"), space.model_copy(update={"points": [{}]}))
    at_once = opened(new_store(tmp_path / "b"), space.model_copy(update={"points": []}))
    assert asked(by_value).values == asked(at_once).values


GRID = """\
trial: {network: {name: resnet8, width: 4}, num_epochs: 4}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {int: [2, 3], when: {quantizer.name: uniform}}
  schedule: {choice: [{name: linear}, {name: average, num_stages: 3}]}
search: {num_trials: 50, sampler: grid, seed: 3}
"""


def test_a_grid_goes_through_every_point_in_order_and_ends(tmp_path, store):
    from sqtune.config.grid import points

    space = space_of(tmp_path, GRID)
    study, seen = opened(store, space), []
    assert asked(study).number == 0
    for _ in range(6):
        study = opened(store, space)  # every time a new driver
        trial = asked(study)
        finish(study, trial)
        seen.append(trial.config)
    assert seen == [space.config(values) for values in points(space)]
    assert study.ask() is None
    assert "grid" in study.exhausted
    assert opened(store, space).ask() is None


def test_a_grid_passes_over_what_a_point_has_done(tmp_path, store):
    text = GRID + "points: [{quantizer.name: binary, schedule: {name: linear}}]\n"
    study = opened(store, space_of(tmp_path, text))
    finish(study, asked(study), 0.3)
    repeated = asked(study)
    assert (repeated.duplicate_of, repeated.val_error, repeated.counts) == (0, 0.3, False)
    assert asked(study).state == "running"


def test_a_grid_over_a_number_without_step_is_refused(store, space):
    with pytest.raises(ConfigError, match=r"space\.optimizer\.lr: .*Give it a step"):
        opened(store, with_search(space, sampler="grid"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_in_the_space_and_reopening_changes_nothing(tmp_path, space, sampler):
    space = with_search(space, sampler=sampler)

    def proposals(name: str, *, reopened: bool) -> list[dict[str, object]]:
        store = new_store(tmp_path / name)
        study, values = opened(store, space), []
        for number in range(14):  # past the first ones, which most draw at random
            study = opened(store, space) if reopened else study
            trial = asked(study)
            assert 0.02 <= trial.config.optimizer.lr <= 0.3
            values.append(trial.values)
            finish(study, trial, 0.1 + 0.05 * (number % 7))
        return values

    whole = proposals("whole", reopened=False)
    assert whole == proposals("reopened", reopened=True)
    assert len({str(values) for values in whole}) == 14
    space = with_search(space, seed=4)
    assert whole[2:] != proposals("other seed", reopened=False)[2:]


def test_sobol_covers_every_value_more_evenly_than_chance(tmp_path, store):
    text = SPACE.replace("SAMPLER", "qmc").split("points:")[0] + "search: {sampler: qmc, seed: 3}\n"
    study = opened(store, space_of(tmp_path, text))
    trials = [asked(study) for _ in range(32)]
    import math

    lows = [math.log(trial.config.optimizer.lr / 0.02) / math.log(15) for trial in trials]
    for part in range(16):  # two in each sixteenth
        assert sum(part <= 16 * low < part + 1 for low in lows) == 2
    assert sum(trial.values["quantizer.name"] == "binary" for trial in trials) == 16


def test_a_sampler_without_its_package_says_how_to_get_it(store, space, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "cmaes" else found(name)
    )
    with pytest.raises(ConfigError, match=r'cmaes needs the package "cmaes".*sqtune\[samplers\]'):
        opened(store, with_search(space, sampler="cmaes"))
    assert not store.journal.exists() or "cmaes" not in store.journal.read_text()


BUDGET = """\
trial: {num_epochs: 4}
space:
  network: {choice: [
    {name: resnet8, width: 4}, {name: resnet8, width: 8}, {name: resnet8, width: 16},
    {name: resnet8, width: 24}, {name: resnet20, width: 8}, {name: resnet20, width: 16}]}
  quantizer: {choice: [{name: binary}, {name: uniform, bits: 2}, {name: uniform, bits: 4}]}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 50, sampler: tpe, seed: SEED}
target: {max_flash: 11KiB}
"""


def test_tpe_learns_what_does_not_fit(tmp_path):
    early = late = 0
    for seed in range(4):  # 13 of 18 do not fit: at random 43 of 60
        folder = tmp_path / str(seed)
        folder.mkdir()
        space = space_of(folder, BUDGET.replace("SEED", str(seed)))
        study = opened(new_store(folder / "store"), space, footprint=on_digits)
        refused = []
        for _ in range(60):
            trial = asked(study)
            refused.append(trial.state == "refused")
            if trial.state == "running":
                finish(study, trial, 0.5 - 1e-5 * trial.size_bytes)  # larger ones are better
        early, late = early + sum(refused[:15]), late + sum(refused[-15:])
    assert early >= 36
    assert late <= 0.8 * early


def test_a_sampler_that_repeats_itself_is_helped_by_chance(tmp_path, store):
    """TPE would propose the best of these few points for ever."""
    text = GRID.replace("sampler: grid", "sampler: tpe").replace(
        "bits: {int: [2, 3]", "bits: {int: [2, 8]"
    )
    study = opened(store, space_of(tmp_path, text))
    trials = []
    for trial in iter(study.ask, None):
        trials.append(trial)
        if trial.state == "running":
            finish(study, trial, 0.1 if trial.values["quantizer.name"] == "binary" else 0.9)
    assert sum(trial.counts for trial in study.trials()) == 16
    assert len(trials) < 400
    assert study.exhausted == "every point of the space has been proposed: there are 16"


def test_a_search_of_what_cannot_fit_ends(tmp_path, store, monkeypatch):
    monkeypatch.setattr(propose, "MOST_USELESS", 20)
    text = SPACE.replace("SAMPLER", "random") + "target: {max_flash: 1KiB}\n"
    study = opened(store, space_of(tmp_path, text), footprint=on_digits)
    trials = list(islice(iter(study.ask, None), 100))
    assert len(trials) == 20
    assert {trial.state for trial in trials} == {"refused"}
    assert "did not fit the target" in study.exhausted
    assert opened(store, study.space, footprint=on_digits).ask() is None


def test_a_warm_start_is_for_the_sampler_alone(tmp_path, space):
    other = opened(new_store(tmp_path / "other"), space)
    for number in range(12):
        finish(other, asked(other), 0.1 + 0.01 * number)
    other.fail(asked(other).number, "the loss is nan")
    high = [t.number for t in other.trials() if t.config.optimizer.momentum > 0.75]
    assert 1 <= len(high) <= 10

    store = new_store(tmp_path / "store")
    narrow = {
        **space.space,
        "optimizer.momentum": space.space["optimizer.momentum"].model_copy(
            update={"bounds": (0.5, 0.7)}
        ),
    }
    tpe = with_search(space.model_copy(update={"space": narrow, "points": []}), sampler="tpe")
    study = opened(store, tpe, footprint=on_digits)
    result = study.warm_start(other)
    assert sorted([*result.taken, *result.left]) == list(range(12))
    assert sorted(result.left) == high
    assert "optimizer.momentum=0." in result.left[high[0]]
    study = opened(store, tpe, footprint=on_digits)
    assert study.warm_start(other).taken == ()
    assert study.trials() == []
    assert len(study._study.trials) == len(result.taken)
    trial = asked(study)
    assert trial.number == len(result.taken)
    finish(study, trial)
    assert [one.number for one in study.trials()] == [trial.number]
    assert DUPLICATE_OF not in study._study.trials[trial.number].user_attrs


def test_a_warm_start_tells_why_it_leaves_trials_out(tmp_path, space):
    other = opened(new_store(tmp_path / "other"), space)
    finish(other, asked(other))

    def reasons(**changes: object) -> set[str]:
        there = space.model_copy(update={"points": [], **changes})
        study = opened(new_store(tmp_path / str(len(list(tmp_path.iterdir())))), there)
        return set(study.warm_start(other).left.values())

    fewer = {path: one for path, one in space.space.items() if path != "optimizer.lr"}
    assert reasons(space=fewer) == {"optimizer.lr is not searched here"}
    more = {
        **space.space,
        "batch_size": space.space["quantizer.bits"].model_copy(update={"when": {}}),
    }
    assert reasons(space=more) == {"it has no value of batch_size"}
    sizes = with_search(space, objectives=("val_error", "size_bytes")).search
    assert reasons(search=sizes) == {"it has no size_bytes"}


def test_of_refused_configurations_the_nearest_is_named(tmp_path, store):
    space = with_target(
        space_of(tmp_path, BUDGET.replace("SEED", "3")), Target(max_flash=100, max_macs=10**9)
    )
    study = opened(store, space, footprint=on_digits)
    trials = [study.ask() for _ in range(12)]
    smallest = min(trials, key=lambda trial: trial.size_bytes)
    found = nearest(trials, space.target)
    assert found.size_bytes == smallest.size_bytes
    assert "max_flash" in found.why
    assert nearest(trials, None) is None
    assert nearest([], space.target) is None


def with_target(space: SearchSpace, target: Target) -> SearchSpace:
    return space.model_copy(update={"target": target})
