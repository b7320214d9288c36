"""Trials as a live view sees them, without a search."""

from __future__ import annotations

import random
from typing import Any

from sqtune.config.trial import Override, TrialConfig
from sqtune.quant import Binary, Exponential, Quantizer, Ternary, Uniform
from sqtune.search.records import State, TrialRecord
from sqtune.search.tally import Tally

QUANTIZERS: tuple[Quantizer, ...] = (Binary(), Ternary(), Uniform(bits=3), Uniform(bits=4))
SIZES = (16_000, 22_400, 28_700, 35_000)
NUM_EPOCHS = 8


def epoch(number: int, val_error: float | None = 0.1, **more: float) -> dict[str, float]:
    error = {} if val_error is None else {"val_error": val_error}
    return {"epoch": number, "seconds": 2.0, "ratio": 0.5, "train_loss": 1.0, **error, **more}


def trial(
    number: int, state: State = "running", val_error: float = 0.1, **more: Any
) -> TrialRecord:
    """Return a trial; one that has finished has its epochs, the first two of another one."""
    epochs = ()
    if state == "finished":
        shared = {"restored": 1.0}
        epochs = tuple(
            epoch(i, val_error, **(shared if i <= 2 else {})) for i in range(1, NUM_EPOCHS + 1)
        )
    kind = number % len(QUANTIZERS)
    fields: dict[str, Any] = {
        "values": {},
        "config": TrialConfig(
            num_epochs=NUM_EPOCHS, quantizer=QUANTIZERS[kind], schedule=Exponential()
        ),
        "epochs": epochs,
        "facts": {"size_bytes": SIZES[kind], "num_validation": 449},
        "failure": None,
        "run_id": None,
        "test_error": None,
    }
    return TrialRecord(number=number, state=state, **{**fields, **more})


def failed(number: int, failure: str = "the loss became nan in epoch 3 of 8.") -> TrialRecord:
    return trial(number, "failed", failure=failure, epochs=(epoch(1), epoch(2)))


def in_letters(number: int) -> TrialRecord:
    """Return a trial whose quantizers are named in wide letters, with spaces."""
    rule = Override(match="層 の 名前.*", quantizer=Ternary())
    config = TrialConfig(num_epochs=NUM_EPOCHS, overrides=(rule,))
    return trial(number, config=config)


def after(num_finished: int = 0, num_failed: int = 0, target: int = 24) -> Tally:
    """Return a search after so many trials."""
    draw, tally = random.Random(0), Tally(target)
    for number in range(num_finished):
        error = draw.lognormvariate(-2.5, 0.3) * SIZES[0] / SIZES[number % len(SIZES)]
        tally.trial_ended(trial(number, "finished", error))
    for number in range(num_finished, num_finished + num_failed):
        tally.trial_ended(failed(number))
    return tally


def train(tally: Tally, number: int, epochs: int, now: float, **report: int) -> None:
    """Let a trial begin and train some epochs of two seconds, one after the other."""
    tally.trial_started(trial(number), now)
    for i in range(1, epochs + 1):
        results = {"number": number, "epochs": [epoch(i, 0.3 / i)], **report}
        tally.reported(results, now + 2.0 * i)


def epochs(tally: Tally) -> tuple[int, int, int]:
    """Return the epochs trained, shared and never begun."""
    return tally.trained, tally.shared, tally.not_begun
