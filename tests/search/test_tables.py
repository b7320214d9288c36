"""What people read of a trial: bits of weights and activations, quantizers, the best."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from sqtune.config.options import Target
from sqtune.config.trial import Override, TrialConfig
from sqtune.output import console
from sqtune.quant import Binary, Float, LearnedUniform, Stages, Ternary, Uniform
from sqtune.search.pareto import best
from sqtune.search.records import TrialRecord
from sqtune.search.tables import (
    as_data,
    bits_text,
    quantizer_text,
    schedule_text,
    selection_text,
    trial_line,
    trials_table,
    weight_bits_text,
)
from sqtune.search.wording import count_text

MIXED = {
    "quantizer": Uniform(bits=2),
    "keep_float": ("head",),
    "overrides": (
        Override(match="stem", quantizer=LearnedUniform(bits=8)),
        Override(match="group1", quantizer=Ternary("row")),
    ),
}


def ended(number=0, val_error=0.1, weight_bits=None, **fields):
    facts = {"size_bytes": 2048, "num_validation": 449}
    if weight_bits is not None:
        facts["weight_bits"] = weight_bits
    return TrialRecord(
        number=number,
        state="finished",
        values={},
        config=TrialConfig(**fields),
        epochs=({"val_error": val_error, "time": 0},),
        facts=facts,
        failure=None,
        run_id=None,
        test_error=None,
    )


def unfinished(**fields):
    return replace(ended(**fields), state="running", facts={})


def printed(trials, most=None):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(trials_table(trials, most))
    header, _, *rows = (line.split() for line in capture.get().splitlines() if line.strip())
    return header, rows


@pytest.mark.parametrize(
    ("trial", "weights", "bits"),
    [
        (ended(weight_bits=1.0), "1", "1 bit"),
        (ended(weight_bits=2.34, **MIXED), "2.3", "2.3 bit"),
        (ended(weight_bits=32.0, keep_float=(".*",)), "32", "32 bit"),
        (ended(weight_bits=1.0, activation_bits=4), "1", "w1 a4"),
        (ended(weight_bits=2.96, activation_bits=8, **MIXED), "3.0", "w3.0 a8"),
        (ended(quantizer=Uniform(bits=3)), "3", "3 bit"),  # a study from before the fact
        (ended(quantizer=Float()), "32", "32 bit"),
        (unfinished(quantizer=Ternary()), "2", "2 bit"),
        (unfinished(**MIXED), "?", "? bit"),
    ],
)
def test_bits_are_the_average_of_the_weights(trial, weights, bits):
    assert weight_bits_text(trial) == weights
    assert bits_text(trial) == bits
    assert f"  {bits}  2.0 KiB  " in trial_line(trial) or trial.state == "running"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "binary"),
        ({"quantizer": Uniform(bits=3)}, "uniform"),  # its bits have a column
        ({"quantizer": Ternary("row")}, "ternary row"),
        (MIXED, "uniform 2, head: float, stem: lsq 8, group1: ternary row"),
    ],
)
def test_quantizers_in_a_few_words(fields, text):
    assert quantizer_text(TrialConfig(**fields)) == text


def test_activations_have_a_column_only_where_some_trial_has_low_bits():
    plain = [ended(0, 0.1, 1.0), ended(1, 0.2, 2.5, **MIXED)]
    header, rows = printed(plain)
    assert header[:7] == ["trial", "error", "%", "bits", "size", "quantizer", "ratio"]
    assert [row[4] for row in rows] == ["1", "2.5"]
    low = ended(2, 0.3, 1.0, activation_bits=4)
    header, rows = printed([*plain, low])
    assert header[3:6] == ["bits", "act", "size"]
    assert [row[4:6] for row in rows] == [["1", "32"], ["2.5", "32"], ["1", "4"]]
    assert "act" not in printed([*plain, low], most=2)[0]


def test_plain_data_hold_both_kinds_of_bits():
    data = as_data(ended(weight_bits=2.25, activation_bits=8, **MIXED))
    assert (data["bits"], data["activation_bits"]) == (2.25, 8)
    assert data["config"]["overrides"][0]["quantizer"] == {"name": "lsq", "bits": 8}
    data = as_data(unfinished(**MIXED))
    assert (data["bits"], data["activation_bits"]) == (None, 32)
    assert as_data(ended(quantizer=Ternary()))["bits"] == 2


def test_only_entirely_float_networks_are_passed_over():
    float_one = ended(0, 0.01, 32.0, quantizer=Float())
    kept_whole = ended(1, 0.02, 32.0, keep_float=(".*",))
    partly = ended(2, 0.03, 20.0, quantizer=Float(), overrides=MIXED["overrides"])
    binary = ended(3, 0.04, 1.0, quantizer=Binary())
    assert best([float_one, kept_whole, partly, binary]) == partly
    assert best([float_one, kept_whole, binary]) == binary
    assert best([kept_whole, float_one]) == float_one
    before = ended(4, 0.01, quantizer=Float()), ended(5, 0.02, quantizer=Ternary())
    assert best(before) == before[1]


def test_brackets_are_text_and_no_markup():
    out = console()
    reason = "no such file: bad[/x].safetensors, trial.start.fresh=[head]"
    with out.capture() as capture:
        out.print(f"trial 1 failed: {reason}", soft_wrap=True)
        out.print(trials_table([ended(keep_float=("[st]+em",))]))
    assert reason in capture.get()
    assert "[st]+em" in capture.get()


def test_what_is_searched_and_has_no_column_gets_one():
    values = {"network.name": "vgg9", "optimizer.lr": 0.1, "distillation.weight": 0.5}
    header, (row,) = printed([replace(ended(), values=values)])
    assert header[-2:] == ["distillation.weight", "network.name"]
    assert row[-2:] == ["0.5", "vgg9"]


def test_where_all_is_quantized_at_once_nothing_is_drawn():
    plain = ended(0, schedule=Stages()).config
    assert (schedule_text(plain), selection_text(plain)) == ("none (all at once)", "-")
    drawn = ended(1, schedule=Stages(ratios=(0.0, 1.0))).config
    assert (schedule_text(drawn), selection_text(drawn)) == (
        "stages ratios=[0.0, 1.0]",
        "linear/filter",
    )


def test_the_bold_row_is_the_one_that_is_handed_over():
    trials = [ended(0, val_error=0.01, quantizer=Float()), ended(1, val_error=0.05)]
    assert best(trials) is trials[1]
    rows = trials_table(trials, leader=best(trials)).rows
    assert [row.style for row in rows] == [None, "bold"]


def untrained(number, state, num_epochs=0, **fields):
    epochs = ({"train_loss": 1.0, "time": 0},) * num_epochs
    return replace(ended(number), state=state, epochs=epochs, **fields)


def test_ended_early_paused_and_refused_trials_say_so():
    stopped = untrained(3, "stopped", 6, why="not among the better half at epoch 6")
    paused = untrained(4, "paused", 9)
    refused = untrained(5, "refused", why="It takes 65.0 KiB of flash (c), max_flash is 64.0 KiB.")
    assert trial_line(stopped) == "trial   3  stopped 6/12: not among the better half at epoch 6"
    assert trial_line(paused) == "trial   4  paused 9/12: paused"
    assert trial_line(refused) == (
        "trial   5  refused: It takes 65.0 KiB of flash (c), max_flash is 64.0 KiB."
    )
    repeated = replace(ended(6), duplicate_of=0)
    assert trial_line(repeated).endswith("as trial 0, which it repeats")
    _, rows = printed([ended(0), stopped, paused, refused, repeated])
    assert [row[:3] for row in rows] == [
        ["0", "10.00", "±"],
        ["3", "stopped", "6/12"],
        ["4", "paused", "9/12"],
    ]
    data = as_data(refused)
    assert (data["state"], data["why"], data["epochs_trained"]) == ("refused", refused.why, 0)
    assert as_data(repeated)["duplicate_of"] == 0


def with_facts(number, val_error, size_bytes, **facts):
    trial = ended(number, val_error)
    return replace(trial, facts={**trial.facts, "size_bytes": size_bytes, **facts})


MEASURED = {"ram_bytes": 131072, "macs": 41_599_616, "bit_operations": 1_331_187_712}


@pytest.mark.parametrize(
    ("target", "objectives", "expected"),
    [
        (None, ["val_error"], []),
        (Target(max_flash="64KiB"), ["val_error", "size_bytes"], []),
        (Target(max_ram="64KiB"), ["val_error"], [("RAM", "128.0 KiB")]),
        (Target(max_macs="20M"), ["val_error"], [("MACs", "41.6M")]),
        (
            Target(max_ram="64KiB", max_macs="20M"),
            ["val_error", "bit_operations"],
            [("RAM", "128.0 KiB"), ("MACs", "41.6M"), ("bit ops", "1.33G")],
        ),
    ],
    ids=str,
)
def test_a_target_and_objectives_ask_for_columns(target, objectives, expected):
    table = trials_table(
        [with_facts(0, 0.1, 2048, **MEASURED)], objectives=objectives, target=target
    )
    names = [column.header for column in table.columns]
    assert names[4 : 4 + len(expected)] == [name for name, _ in expected]
    assert names[:4] + names[4 + len(expected) :] == [
        *("trial", "error %", "bits", "size", "quantizer", "ratio schedule", "selection", "lr")
    ]
    for column, (_, text) in zip(table.columns[4:], expected, strict=False):
        assert list(column.cells) == [text]


def test_the_front_is_marked_where_there_are_several_objectives():
    trials = [with_facts(0, 0.1, 4096), with_facts(1, 0.2, 2048), with_facts(2, 0.2, 8192)]

    def marks(objectives):
        return list(trials_table(trials, objectives=objectives).columns[0].cells)

    assert marks(["val_error"]) == ["0", "1", "2"]
    assert marks(["val_error", "size_bytes"]) == ["* 0", "* 1", "2"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.7, "1k"), (25_000_000, "25M"), (2e18, "2e+06T"), (None, "?")],
)
def test_large_counts_have_three_digits(number, text):
    assert count_text(number) == text


def test_a_float_network_has_no_low_bit_activations():
    trial = ended(weight_bits=32, quantizer=Float(), activation_bits=2)
    assert bits_text(trial) == "32 bit"
    assert as_data(trial)["activation_bits"] == 32
    assert "act" not in printed([trial])[0]
