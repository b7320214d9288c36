"""What a plan says against counting by hand, and against a study that really shares stages."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sqtune.cli import main
from sqtune.config import load_space
from sqtune.data.prepare import prepare
from sqtune.errors import ConfigError
from sqtune.search.plan import plan
from sqtune.search.probe import probe_epoch

SPACE = """
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 8
  schedule: {name: exponential, warmup: 0.5}
space:
  quantizer.name: {choice: [binary, ternary]}
  network.width: {choice: [2, 4, 8]}
search: {num_trials: 24, sampler: grid}
"""


@pytest.fixture(scope="module")
def splits_of():
    known = {}

    def read(data):
        if data not in known:
            known[data] = prepare(data)
        return known[data]

    return read


@pytest.fixture
def planned(tmp_path, splits_of):
    """Return a function that plans the space above, changed by overrides."""

    def make(*overrides, text=SPACE):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return plan(load_space(path, overrides), splits_of)

    return make


def test_a_grid_by_hand(planned):
    made = planned()
    assert (made.form, made.no_cost) == ("onnx", None)
    survey, trials = made.survey, made.trials
    assert (survey.points, survey.configurations, survey.looked_at) == (6, 6, 6)
    assert (survey.refused, survey.refused_standard_error) == (0, 0)
    # six trials of eight epochs; in each width, four float epochs are shared by two quantizers
    assert (trials.trials, trials.epochs_asked, trials.epochs) == (6, 48, 36)
    # a warm-up and four ratios each
    assert (trials.stages_asked, trials.stages) == (30, 27)
    # multiply-adds of width 2 are counted in tests/deploy/test_footprint.py
    assert survey.macs[0] == 1152 + 4608 + 3968 + 3968 + 24 + 56
    assert survey.size_bytes[0] < survey.size_bytes[1]
    assert survey.ram_bytes == (4 * 2 * 128, 4 * 4 * 2 * 128)


FIXED = ("trial.network.width=4", "trial.quantizer.name=binary", "trial.schedule={name: stages}")


def test_only_checkpoints_that_stay_can_be_taken_up(planned):
    # one stage of eight epochs; the learning rates part after the fourth
    steps = "[{name: steps, milestones: [0.5]}, {name: steps, milestones: [0.75]}]"
    rates = f"space.optimizer.schedule={{choice: {steps}}}"
    assert planned(*FIXED, rates).trials.epochs == 16
    rung = ("search.early_stopping.name=stop", "search.early_stopping.rungs=[0.5]")
    assert planned(*FIXED, rates, *rung).trials.epochs == 12


def test_what_never_acts_makes_no_other_training(planned):
    # at ratio 1 nothing is selected
    selections = "space.selection.function={choice: [linear, constant]}"
    trials = planned(*FIXED, selections).trials
    assert (trials.trials, trials.repeated, trials.epochs) == (2, 0, 8)
    halves = "trial.schedule={name: stages, ratios: [0.5, 1], starts: [0, 0.5]}"
    assert planned(*FIXED[:2], halves, selections).trials.epochs == 16


def test_a_target_refuses_its_share_and_costs_no_trial(planned):
    whole = planned()
    low, high = whole.survey.size_bytes
    made = planned(f"target.max_flash={(low + high) // 2}")
    assert made.survey.refused == pytest.approx(2 / 6)  # width 8
    assert (made.trials.trials, made.trials.refused) == (4, 2)
    assert made.trials.epochs == 24
    assert made.survey.size_bytes == (low, high)
    in_c = planned("target.form=c", "target.max_flash=1")
    assert in_c.form == "c"
    assert in_c.survey.size_bytes[1] < high
    assert (in_c.survey.refused, in_c.trials.trials) == (1, 0)
    assert in_c.cost is None
    assert in_c.no_cost == "no proposal fits the target"


def test_a_large_space_is_drawn_from_and_a_sampler_that_learns_is_played_by_random(planned):
    endless = "space.optimizer.lr={float: [0.01, 0.1]}"
    target = "target.max_macs=100000"  # width 8 does not fit
    made = planned(endless, target, "search.sampler=tpe", "search.num_trials=5")
    assert (made.survey.points, made.survey.configurations) == (None, None)
    assert made.survey.looked_at == 2000
    error = made.survey.refused_standard_error
    assert made.survey.refused == pytest.approx(1 / 3, abs=4 * error)
    assert 0.005 < error < 0.02
    assert (made.trials.sampler, made.trials.trials) == ("random", 5)
    assert made.trials.epochs == made.trials.epochs_asked == 40  # no two learning rates are equal
    again = planned(endless, target, "search.sampler=tpe", "search.num_trials=5")
    assert (again.survey, again.trials) == (made.survey, made.trials)


def test_repeated_proposals_cost_nothing(planned):
    made = planned("search.sampler=random")
    assert made.trials.trials == 6  # of 24: there are no more
    assert made.trials.repeated > 0
    assert made.trials.epochs == 36


def test_a_grid_of_an_endless_space_is_an_error(planned):
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        planned("space.optimizer.lr={float: [0.01, 0.1]}")


def test_cost_follows_slots_and_resources(planned):
    cost = planned("search.max_concurrent=1").cost
    assert cost.slots == 1
    assert cost.gpu_hours == 0
    assert cost.cpu_hours == pytest.approx(cost.seconds / 3600)
    assert cost.typical["width"] == 4
    # 36 epochs: 12 of each width, in proportion to their multiply-adds, of which width 4's is 1
    assert cost.seconds / cost.epoch_seconds == pytest.approx(12 * (0.26 + 1 + 3.9), rel=0.05)


def test_a_machine_that_cannot_run_it_still_gets_a_plan(planned):
    made = planned("resources.gpus=1000")
    assert made.cost is None
    assert "resources.gpus" in made.no_cost
    assert made.trials.epochs == 36


def test_a_probe_measures_what_training_takes(splits_of, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SPACE)
    config = load_space(path).config({"quantizer.name": "binary", "network.width": 4})
    splits = splits_of(config.data)
    few = probe_epoch(config, splits, macs=10**8, device="cpu", num_threads=1)
    assert 2 <= few.num_images < len(splits.train)
    most = probe_epoch(config, splits, macs=1, device="cpu", num_threads=1)
    assert most.num_images == 1078 - 1078 % 128
    assert len(splits.train) == 1078
    # neighbours on the machine slow one or the other, but not as much as the parts differ in size
    assert most.num_images > 10 * few.num_images
    assert few.epoch_seconds > most.epoch_seconds / 10
    assert most.epoch_seconds > few.epoch_seconds / 50


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_prints_a_plan_and_leaves_nothing(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SPACE)
    store = tmp_path / "store"
    target = ("--set", "target.max_macs=100000")
    answer = invoke("plan", "--space", path, *target, "--store", store)
    assert answer.exit_code == 0, answer.output
    lines = {line.split()[0]: line for line in answer.output.splitlines()}
    assert lines["points"] == (
        "points    6 (6 different configurations): 33.3 % do not fit the target"
    )
    assert lines["trials"] == (
        "trials    4 of 24, proposed by grid; 2 proposals refused, 0 repeated"
    )
    assert lines["epochs"] == "epochs    24 of 32 (75 %): 18 different stages of 20"
    assert lines["time"].startswith("time      less than a minute (")
    answer = invoke("plan", "--space", path, *target, "--store", store, "--json")
    made = json.loads(answer.stdout)
    assert made["space"] == "study"
    assert made["trials"]["epochs"] == 24
    assert made["cost"]["slots"] >= 1
    assert not store.exists()


ALIKE = """
trial: {num_epochs: 2, network: {name: resnet8, width: 2}}
space: {optimizer.lr: {float: [0.01, 0.3]}}
search: {num_trials: 3}
target: {max_ram: 1MiB}
"""


def test_figures_that_say_nothing_are_left_out(tmp_path):
    (tmp_path / "study.yaml").write_text(ALIKE)
    answer = invoke("plan", "--space", tmp_path / "study.yaml", "--store", tmp_path / "store")
    lines = {line.split()[0]: line for line in answer.output.splitlines()}
    assert lines["points"].endswith(": all fit the target")
    assert not [name for name in ("size", "RAM", "MACs") if " to " in lines[name]]
    assert lines["epochs"] == "epochs    6; no two trials begin alike, so none are shared"
    assert "CPU-minutes)" in lines["time"]
