"""When a search ends before its trials have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sqtune.config.options import SearchOptions
from sqtune.config.trial import TrialConfig
from sqtune.quant import Float
from sqtune.search.limits import Limits, cause
from sqtune.search.records import TrialRecord

FINISHED = TrialRecord(
    number=0,
    state="finished",
    values={},
    config=TrialConfig(),
    epochs=({"val_error": 0.02},),
    facts={},
    failure=None,
    run_id=None,
    test_error=None,
)
FAILED = replace(FINISHED, state="failed", epochs=(), failure="the loss became nan in epoch 3.")


def limits(gpus: float = 0.0, seconds_before: float = 0.0, **options: object) -> Limits:
    return Limits(SearchOptions(**options), gpus, seconds_before, lambda: False)


def test_nothing_ends_a_search_without_limits() -> None:
    free = limits()
    free.trained(1e9)
    free.ended(FINISHED)
    assert free.now() is None
    assert free.soon() is None


def test_a_good_enough_quantized_network_ends_it() -> None:
    wanted = limits(target_error="2%")
    wanted.ended(replace(FINISHED, epochs=({"val_error": 0.021},)))
    wanted.ended(
        replace(FINISHED, config=TrialConfig(quantizer=Float()), epochs=({"val_error": 0.0},))
    )
    assert wanted.now() is None
    wanted.ended(FINISHED)
    assert wanted.now() == "target error"


def test_hours_of_gpus_count_what_earlier_drivers_used() -> None:
    half = limits(gpus=0.5, seconds_before=7000.0, max_gpu_hours=1.0)
    half.trained(199.0)
    assert half.now() is None
    half.trained(1.0)
    assert half.now() == "GPU hours"
    without = limits(gpus=0.0, max_gpu_hours=1.0)
    without.trained(1e6)
    assert without.now() is None


def test_time_runs_out() -> None:
    assert limits(time_limit_seconds=3600).now() is None
    assert limits(time_limit_seconds=1e-9).now() == "time limit"


def test_failures_of_one_cause_end_it_whatever_their_numbers() -> None:
    failing = limits(max_failures=3)
    for epoch in (1, 2):
        failing.ended(replace(FAILED, failure=f"first line\nthe loss became nan in epoch {epoch}."))
        failing.ended(replace(FAILED, failure=f"out of memory {epoch}"))
    assert failing.soon() is None
    failing.ended(FAILED)
    assert failing.soon() == "failures"
    assert failing.now() is None  # what runs may end its epoch


def test_causes_are_last_lines_without_numbers() -> None:
    assert cause("a\nloss 1.5e-3 in epoch 7") == cause("b\nloss 2 in epoch 12")
    assert cause("loss") != cause("memory")


def test_different_errors_of_cuda_are_different_causes() -> None:
    def raised(what: str) -> str:
        hint = "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
        call = '  File "a.py", line 3, in step\n    loss.backward()\n    ~~~~~~~~^^\n'
        return f"Traceback (most recent call last):\n{call}Error: CUDA error: {what}\n{hint}"

    assert cause(raised("an illegal address")) == "Error: CUDA error: an illegal address"
    chained = f"ValueError: first\n\nDuring handling of it:\n\n{raised('out of memory')}"
    assert cause(chained).endswith("out of memory")


@pytest.mark.parametrize("requested", [True, False])
def test_a_request_to_stop_lets_epochs_end(requested: bool) -> None:
    asked = Limits(SearchOptions(), 0.0, 0.0, lambda: requested)
    assert asked.soon() == ("stopped" if requested else None)
    assert asked.now() is None
