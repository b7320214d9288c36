"""Exact values of the ratio schedules, worked out by hand."""

from typing import get_args

import pytest

from sqtune.quant import (
    Average,
    CosineRise,
    Cubic,
    Exponential,
    Linear,
    Schedule,
    Stages,
    epoch_ratio,
    epoch_stage,
)

Curve = Linear | Cubic | CosineRise


def epoch_ratios(schedule: Schedule, num_epochs: int) -> list[float]:
    return [epoch_ratio(schedule, epoch, num_epochs) for epoch in range(1, num_epochs + 1)]


def test_the_papers_exponential_schedule() -> None:
    assert [Exponential().ratio(p) for p in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 1)] == [
        0.5, 0.5, 0.75, 0.875, 0.875, 1.0, 1.0,
    ]  # fmt: skip
    assert epoch_ratios(Exponential(), 4) == [0.5, 0.75, 0.875, 1.0]
    assert epoch_ratios(Exponential(), 8) == [0.5, 0.5, 0.75, 0.75, 0.875, 0.875, 1.0, 1.0]


def test_the_papers_average_schedule() -> None:
    assert [Average().ratio(p) for p in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 1)] == [
        0.25, 0.25, 0.5, 0.75, 0.75, 1.0, 1.0,
    ]  # fmt: skip
    assert epoch_ratios(Average(), 4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("num_stages", range(1, 33))
def test_exponential_halves_the_float_share_at_each_stage(num_stages: int) -> None:
    ratios = [Exponential(num_stages=num_stages).ratio(k / num_stages) for k in range(num_stages)]
    assert [1 - ratio for ratio in ratios[:-1]] == [2.0**-k for k in range(1, num_stages)]
    assert ratios[-1] == 1


@pytest.mark.parametrize("num_stages", range(1, 33))
def test_average_rises_by_equal_steps(num_stages: int) -> None:
    ratios = [Average(num_stages=num_stages).ratio(k / num_stages) for k in range(num_stages)]
    assert ratios == pytest.approx([(k + 1) / num_stages for k in range(num_stages)])


@pytest.mark.parametrize("num_stages", [2, 3, 4, 7])
@pytest.mark.parametrize("per_stage", [1, 2, 3, 10])
@pytest.mark.parametrize("kind", [Exponential, Average])
def test_stages_are_equal_shares_of_training(
    kind: type[Exponential | Average], num_stages: int, per_stage: int
) -> None:
    ratios = epoch_ratios(kind(num_stages=num_stages), num_stages * per_stage)
    stages = [ratios[i : i + per_stage] for i in range(0, len(ratios), per_stage)]
    assert all(len(set(stage)) == 1 for stage in stages)
    assert len(set(ratios)) == num_stages


def test_the_warm_up_shortens_the_stages_equally() -> None:
    assert epoch_ratios(Average(num_stages=2, warmup=0.5), 8) == [0, 0, 0, 0, 0.5, 0.5, 1, 1]
    assert epoch_ratios(Exponential(num_stages=3, warmup=0.4), 10) == [
        0, 0, 0, 0, 0.5, 0.5, 0.75, 0.75, 1, 1,
    ]  # fmt: skip


def test_linear_rises_straight_from_start_to_reach() -> None:
    schedule = Linear(start=0.2, reach=0.9, warmup=0.1)
    assert schedule.ratio(0.1 - 1e-6) == 0
    for progress, ratio in [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.9, 1.0), (1.0, 1.0)]:
        assert schedule.ratio(progress) == pytest.approx(ratio)
    assert epoch_ratios(Linear(), 5) == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_cubic_rises_fast_at_first() -> None:
    schedule = Cubic(start=0.2, reach=0.9, warmup=0.1)
    assert schedule.ratio(0.1 - 1e-6) == 0
    for progress, ratio in [(0.1, 0.2), (0.3, 1 - 0.8 * 0.421875), (0.5, 0.9), (0.9, 1.0)]:
        assert schedule.ratio(progress) == pytest.approx(ratio)
    assert epoch_ratios(Cubic(), 4) == [0.578125, 0.875, 0.984375, 1.0]


def test_cosine_rises_slowly_at_both_ends() -> None:
    schedule = CosineRise(start=0.2, reach=0.9, warmup=0.1)
    assert schedule.ratio(0.1 - 1e-6) == 0
    for progress, ratio in [(0.1, 0.2), (0.5, 0.6), (0.9, 1.0), (1.0, 1.0)]:
        assert schedule.ratio(progress) == pytest.approx(ratio)
    assert schedule.ratio(0.1 + 0.8 / 3) == pytest.approx(0.2 + 0.8 * 0.25)
    assert epoch_ratios(CosineRise(), 3) == [0.25, 0.75, 1.0]


@pytest.mark.parametrize("kind", get_args(Curve))
def test_the_stages_of_a_curve_are_warm_up_rise_and_rest(kind: type[Curve]) -> None:
    assert kind().stage_starts == (0.0,)
    assert kind(reach=0.5).stage_starts == (0.0, 0.5)
    assert kind(warmup=0.25, reach=0.5).stage_starts == (0.0, 0.25, 0.5)
    assert [epoch_stage(kind(warmup=0.25, reach=0.5), epoch, 8) for epoch in (2, 3, 4, 5, 8)] == [
        (1, 2), (3, 2), (3, 2), (5, 4), (5, 4),
    ]  # fmt: skip


def test_the_papers_stages_are_quarters() -> None:
    assert Exponential().stage_starts == Average().stage_starts == (0.0, 0.25, 0.5, 0.75)
    assert [epoch_stage(Exponential(), epoch, 64) for epoch in (1, 16, 17, 48, 49, 64)] == [
        (1, 16), (1, 16), (17, 16), (33, 16), (49, 16), (49, 16),
    ]  # fmt: skip


def test_the_warm_up_is_a_stage() -> None:
    assert Average(num_stages=2, warmup=0.5).stage_starts == (0.0, 0.5, 0.75)
    assert Stages((0.0, 0.5, 1.0)).stage_starts == pytest.approx((0.0, 1 / 3, 2 / 3))


def test_stages_start_where_they_are_told() -> None:
    schedule = Stages(ratios=(0.0, 0.5, 1.0), starts=(0.0, 0.3, 0.6))
    assert [schedule.ratio(p) for p in (0, 0.29, 0.3, 0.59, 0.6, 1)] == [0, 0, 0.5, 0.5, 1, 1]
    assert schedule.ratio(0.1 + 0.2) == 0.5
    assert epoch_ratios(schedule, 10) == [0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("early", [0.3, 0.1 + 0.2])
@pytest.mark.parametrize("late", [0.3, 0.1 + 0.2])
def test_a_stage_starts_at_its_point_whichever_way_that_is_rounded(
    early: float, late: float
) -> None:
    assert Average(warmup=late).ratio(early) == 0.25
    assert Linear(start=0.5, warmup=late).ratio(early) == pytest.approx(0.5)
    assert Stages(ratios=(0.5, 1.0), starts=(0.0, late)).ratio(early) == 1


def test_stages_without_starts_are_equal() -> None:
    schedule = Stages(ratios=(0.1, 0.6, 1.0))
    assert [schedule.ratio(p) for p in (0, 0.33, 1 / 3, 0.66, 2 / 3)] == [0.1, 0.1, 0.6, 0.6, 1]


def test_the_default_stages_quantize_directly() -> None:
    assert epoch_ratios(Stages(), 3) == [1.0, 1.0, 1.0]


def test_a_stage_shorter_than_an_epoch_is_passed_over() -> None:
    assert epoch_ratios(Stages(ratios=(0.2, 0.9, 1.0), starts=(0.0, 0.6, 0.7)), 2) == [0.2, 1.0]
    assert epoch_ratios(Exponential(), 1) == [1.0]
    short = Stages(ratios=(0.2, 0.9, 1.0), starts=(0.0, 0.6, 0.7))
    assert [epoch_stage(short, epoch, 2) for epoch in (1, 2)] == [(1, 1), (2, 1)]
    assert epoch_stage(Exponential(), 1, 1) == (1, 1)
