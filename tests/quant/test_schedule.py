"""Laws of the ratio schedules: one contract for all of them."""

import bisect
import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqtune.errors import QuantizationError
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

SCHEDULES: list[Schedule] = [
    *(
        kind(num_stages=num_stages, warmup=warmup)
        for kind in (Exponential, Average)
        for num_stages in (1, 2, 3, 4, 7, 32)
        for warmup in (0.0, 0.1, 0.5, 0.95)
    ),
    *(
        kind(**options)
        for kind in get_args(Curve)
        for options in (
            {},
            {"start": 1.0},
            {"reach": 0.5},
            {"start": 0.3, "reach": 0.7, "warmup": 0.2},
            {"start": 0.1, "reach": 1.0, "warmup": 0.9},
            {"reach": 0.3, "warmup": 0.1 + 0.2 - 1e-3},
        )
    ),
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


def curves(kind: type[Curve]) -> st.SearchStrategy[Curve]:
    return st.floats(0, 0.99).flatmap(
        lambda warmup: st.builds(
            kind,
            start=st.floats(0, 1),
            reach=st.floats(warmup + 1e-3, 1),
            warmup=st.just(warmup),
        )
    )


STEPPED = {"num_stages": st.integers(1, 32), "warmup": st.floats(0, 0.99)}
STRATEGIES: dict[type, st.SearchStrategy[Schedule]] = {
    Exponential: st.builds(Exponential, **STEPPED),
    Average: st.builds(Average, **STEPPED),
    Linear: curves(Linear),
    Cubic: curves(Cubic),
    CosineRise: curves(CosineRise),
    Stages: stages(),
}
ANY_SCHEDULE = st.one_of(*STRATEGIES.values())


def epoch_ratios(schedule: Schedule, num_epochs: int) -> list[float]:
    return [epoch_ratio(schedule, epoch, num_epochs) for epoch in range(1, num_epochs + 1)]


# The contract of every schedule.


def test_the_suite_runs_over_every_schedule_there_is() -> None:
    assert set(STRATEGIES) == set(get_args(Schedule))
    assert {type(schedule) for schedule in SCHEDULES} == set(get_args(Schedule))


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


@ACROSS
def test_stages_start_at_0_and_increase_below_1(schedule: Schedule) -> None:
    starts = schedule.stage_starts
    assert starts[0] == 0
    assert all(
        early < late < 1 for early, late in itertools.pairwise((*starts, math.nextafter(1, 0)))
    )


@given(schedule=ANY_SCHEDULE, points=st.lists(st.floats(0, 1 - 1e-9), min_size=1))
def test_a_ratio_jumps_nowhere_but_where_a_stage_starts(
    schedule: Schedule, points: list[float]
) -> None:
    for point in points:
        if all(abs(point - start) > 1e-8 for start in schedule.stage_starts):
            rise = schedule.ratio(point + 1e-10) - schedule.ratio(point)
            assert rise <= (1e-6 if isinstance(schedule, Curve) else 0)


@given(schedule=ANY_SCHEDULE)
def test_a_ratio_that_jumps_does_so_at_the_start_itself(schedule: Schedule) -> None:
    for start in schedule.stage_starts:
        assert schedule.ratio(start) == pytest.approx(
            schedule.ratio(min(start + 1e-12, 1)), abs=1e-6
        )


@given(schedule=ANY_SCHEDULE, num_epochs=st.integers(1, 60))
def test_an_epoch_belongs_to_the_stage_in_force_just_before_its_end(
    schedule: Schedule, num_epochs: int
) -> None:
    starts = schedule.stage_starts
    stages = [bisect.bisect_right(starts, e / num_epochs - 1e-9) for e in range(1, num_epochs)]
    stages.append(len(starts))
    expected = []
    for _, group in itertools.groupby(stages):
        length = len(list(group))
        expected += [(len(expected) + 1, length)] * length
    found = [epoch_stage(schedule, epoch, num_epochs) for epoch in range(1, num_epochs + 1)]
    assert found == expected


@given(schedule=ANY_SCHEDULE, num_epochs=st.integers(2, 60))
def test_a_stepped_ratio_changes_only_with_the_stage(schedule: Schedule, num_epochs: int) -> None:
    ratios = epoch_ratios(schedule, num_epochs)
    for epoch, (early, late) in enumerate(itertools.pairwise(ratios), 1):
        if early != late and not isinstance(schedule, Curve):
            assert epoch_stage(schedule, epoch + 1, num_epochs)[0] == epoch + 1


def test_a_positional_argument_is_never_the_name() -> None:
    assert Exponential(3) == Exponential(num_stages=3)
    assert Average(3) == Average(num_stages=3)
    assert all(kind(0.5) == kind(start=0.5) for kind in get_args(Curve))
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
    with pytest.raises(QuantizationError, match=f"count from 1 to 5, not {epoch}"):
        epoch_stage(schedule, epoch, 5)


@ACROSS
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    fields = {name: getattr(schedule, name) for name in type(schedule).__slots__}
    assert type(schedule)(**fields) == schedule
    assert len({schedule, type(schedule)(**fields)}) == 1
    with pytest.raises(AttributeError):
        schedule.name = "other"
