"""Laws of the ratio schedules: one contract for all of them, exact values, rejected inputs."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqtune.errors import QuantizationError
from sqtune.quant import Average, Exponential, Linear, Schedule, Stages, epoch_ratio

SCHEDULES: list[Schedule] = [
    *(
        kind(num_stages=num_stages, warmup=warmup)
        for kind in (Exponential, Average)
        for num_stages in (1, 2, 3, 4, 7, 32)
        for warmup in (0.0, 0.1, 0.5, 0.95)
    ),
    Linear(),
    Linear(start=1.0),
    Linear(reach=0.5),
    Linear(start=0.3, reach=0.7, warmup=0.2),
    Linear(start=0.1, reach=1.0, warmup=0.9),
    Linear(reach=0.3, warmup=0.1 + 0.2 - 1e-3),
    Stages(),
    Stages(ratios=(0.0, 1.0)),
    Stages(ratios=(0.25, 0.25, 1.0)),
    Stages(ratios=(0.0, 0.0, 0.1, 0.7, 1.0, 1.0)),
    Stages(ratios=(1.0,), starts=(0.0,)),
    Stages(ratios=(0.0, 0.5, 1.0), starts=(0.0, 0.2, 0.4)),
    Stages(ratios=(0.2, 0.9, 1.0), starts=(0.0, 0.97, 0.99)),
]
GRID = [step / 2000 for step in range(2001)]
ACROSS = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


@st.composite
def stages(draw: st.DrawFn) -> Stages:
    ratios = sorted(draw(st.lists(st.floats(0, 1), max_size=6)))
    starts = draw(
        st.just(())
        | st.lists(
            st.floats(1e-6, 0.999), min_size=len(ratios), max_size=len(ratios), unique=True
        ).map(lambda points: (0.0, *sorted(points)))
    )
    return Stages(ratios=(*ratios, 1.0), starts=starts)


@st.composite
def lines(draw: st.DrawFn) -> Linear:
    warmup = draw(st.floats(0, 0.99))
    reach = draw(st.floats(warmup, 1, exclude_min=True))
    return Linear(start=draw(st.floats(0, 1)), reach=reach, warmup=warmup)


STEPPED = {"num_stages": st.integers(1, 32), "warmup": st.floats(0, 0.99)}
ANY_SCHEDULE = (
    st.builds(Exponential, **STEPPED) | st.builds(Average, **STEPPED) | lines() | stages()
)


def epoch_ratios(schedule: Schedule, num_epochs: int) -> list[float]:
    return [epoch_ratio(schedule, epoch, num_epochs) for epoch in range(1, num_epochs + 1)]


# The contract of every schedule.


@ACROSS
def test_ratios_never_fall_and_stay_in_0_to_1(schedule: Schedule) -> None:
    ratios = [schedule.ratio(progress) for progress in GRID]
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0
    assert ratios[-1] == 1


@given(schedule=ANY_SCHEDULE, points=st.lists(st.floats(0, 1), max_size=20))
def test_ratios_never_fall_between_any_two_points(schedule: Schedule, points: list[float]) -> None:
    ratios = [schedule.ratio(progress) for progress in sorted([*points, 0.0, 1.0])]
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0
    assert ratios[-1] == 1


@ACROSS
def test_the_ratio_is_0_through_the_warm_up_and_only_then(schedule: Schedule) -> None:
    warmup = getattr(schedule, "warmup", 0.0)
    assert all(schedule.ratio(progress) == 0 for progress in GRID if progress < warmup - 1e-6)
    if isinstance(schedule, Exponential | Average):
        assert all(schedule.ratio(progress) > 0 for progress in GRID if progress > warmup + 1e-6)


@ACROSS
def test_epoch_ratios_never_fall_and_the_last_is_1(schedule: Schedule) -> None:
    for num_epochs in range(1, 31):
        ratios = epoch_ratios(schedule, num_epochs)
        assert ratios == sorted(ratios)
        assert ratios[0] >= 0
        assert ratios[-1] == 1


@given(schedule=ANY_SCHEDULE, num_epochs=st.integers(1, 300))
def test_epoch_ratios_of_any_schedule_never_fall(schedule: Schedule, num_epochs: int) -> None:
    ratios = epoch_ratios(schedule, num_epochs)
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0
    assert ratios[-1] == 1


@given(schedule=ANY_SCHEDULE, num_epochs=st.integers(2, 50), data=st.data())
def test_an_epoch_holds_a_ratio_of_the_schedule_before_its_end(
    schedule: Schedule, num_epochs: int, data: st.DataObject
) -> None:
    epoch = data.draw(st.integers(1, num_epochs - 1))
    end = epoch / num_epochs
    early, late = schedule.ratio(end - 1e-6), schedule.ratio(end)
    assert early - 1e-6 <= epoch_ratio(schedule, epoch, num_epochs) <= late + 1e-6


def test_a_positional_argument_is_never_the_name() -> None:
    assert Exponential(3) == Exponential(num_stages=3)
    assert Average(3) == Average(num_stages=3)
    assert Linear(0.5) == Linear(start=0.5)
    assert Stages((0.5, 1.0)) == Stages(ratios=(0.5, 1.0))


@ACROSS
@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan, math.inf])
def test_progress_outside_0_to_1_is_rejected(schedule: Schedule, progress: float) -> None:
    with pytest.raises(QuantizationError, match=r"progress is in \[0, 1\], not"):
        schedule.ratio(progress)


@ACROSS
@pytest.mark.parametrize("epoch", [-1, 0, 6])
def test_an_epoch_outside_the_budget_is_rejected(schedule: Schedule, epoch: int) -> None:
    with pytest.raises(QuantizationError, match=f"count from 1 to 5, not {epoch}"):
        epoch_ratio(schedule, epoch, 5)


@ACROSS
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    fields = {name: getattr(schedule, name) for name in type(schedule).__slots__}
    assert type(schedule)(**fields) == schedule
    assert len({schedule, type(schedule)(**fields)}) == 1
    with pytest.raises(AttributeError):
        schedule.name = "other"


# Exact values.


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


# What a schedule rejects: each message names the rule and the value.

REJECTED: list[tuple[type, dict[str, Any], str]] = [
    *(
        (kind, options, message)
        for kind in (Exponential, Average)
        for options, message in [
            ({"num_stages": 0}, "num_stages is 1 to 32, not 0"),
            ({"num_stages": 33}, "num_stages is 1 to 32, not 33"),
            ({"warmup": -0.1}, r"warmup is a share of training in \[0, 1\), not -0.1"),
            ({"warmup": 1.0}, r"warmup is a share of training in \[0, 1\), not 1.0"),
            ({"warmup": math.nan}, "warmup .* not nan"),
        ]
    ),
    (Linear, {"warmup": 1.0}, r"warmup is a share of training in \[0, 1\), not 1.0"),
    (Linear, {"start": -0.1}, r"start is a ratio in \[0, 1\], not -0.1"),
    (Linear, {"start": 1.1}, r"start is a ratio in \[0, 1\], not 1.1"),
    (Linear, {"start": math.nan}, "start .* not nan"),
    (Linear, {"reach": 1.1}, "at most 1, not 1.1"),
    (Linear, {"reach": 0.0}, r"after the warm-up \(0.0\) and at most 1, not 0.0"),
    (Linear, {"reach": 0.5, "warmup": 0.5}, r"after the warm-up \(0.5\) .* not 0.5"),
    (Linear, {"reach": math.nan}, "reach .* not nan"),
    (Stages, {"ratios": ()}, "ratios is empty: give at least the last one, 1.0"),
    (Stages, {"ratios": (-0.1, 1.0)}, r"ratios are in \[0, 1\], not \[-0.1, 1.0\]"),
    (Stages, {"ratios": (0.5, 1.1)}, r"ratios are in \[0, 1\], not \[0.5, 1.1\]"),
    (Stages, {"ratios": (math.nan, 1.0)}, r"ratios are in \[0, 1\], not \[nan, 1.0\]"),
    (Stages, {"ratios": (0.5, 0.4, 1.0)}, r"never fall.*\[0.5, 0.4, 1.0\]"),
    (Stages, {"ratios": (0.5, 0.9)}, "the last ratio is 1 .* not 0.9"),
    (Stages, {"ratios": (0.5, 1.0), "starts": (0.0,)}, "one entry per ratio: 2, not 1"),
    (Stages, {"ratios": (1.0,), "starts": (0.1,)}, "the first stage starts at 0, not 0.1"),
    (Stages, {"ratios": (0.5, 1.0), "starts": (0.0, 0.0)}, r"increase.*\[0.0, 0.0\]"),
    (Stages, {"ratios": (0.5, 1.0), "starts": (0.0, 1.0)}, r"stay below 1, not \[0.0, 1.0\]"),
    (Stages, {"ratios": (0.2, 0.5, 1.0), "starts": (0.0, 0.6, 0.5)}, r"increase.*0.6, 0.5\]"),
    (Stages, {"ratios": (0.5, 1.0), "starts": (0.0, math.nan)}, r"increase.*nan\]"),
]


@pytest.mark.parametrize(("kind", "options", "message"), REJECTED)
def test_a_broken_rule_is_rejected_with_rule_and_value(
    kind: type[Schedule], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(QuantizationError, match=message):
        kind(**options)
