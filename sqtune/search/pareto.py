"""Which trial is best: under a size budget, and in order."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqtune.errors import ConfigError
from sqtune.quant import Float
from sqtune.search.records import TrialRecord


def standard_error(error: float, num_images: int) -> float:
    """Return the standard error of an error rate (0..1) measured on `num_images` images.

    >>> round(standard_error(0.02, 449), 4)
    0.0066
    """
    return math.sqrt(error * (1 - error) / num_images)


def ranking(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the finished trials, best first: by error, then by size, then by age."""
    finished = [trial for trial in trials if trial.val_error is not None]
    return sorted(finished, key=_merit)


def best(trials: Sequence[TrialRecord], max_size_bytes: int | None = None) -> TrialRecord | None:
    """Return the best finished trial of at most `max_size_bytes`; None if there is none.

    Entirely float baselines are passed over as long as a quantized network finished.
    """
    fitting = [
        trial
        for trial in ranking(trials)
        if max_size_bytes is None
        or (trial.size_bytes is not None and trial.size_bytes <= max_size_bytes)
    ]
    quantized = [trial for trial in fitting if trial.weight_bits != Float.bits]
    return next(iter(quantized or fitting), None)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 64KiB, 20kB, 1.5MiB or 4096.

    Raises:
        ConfigError: It is none.

    >>> parse_size("64KiB"), parse_size("20kB"), parse_size("4096")
    (65536, 20000, 4096)
    """
    units = {"": 1, "b": 1, "kb": 1000, "mb": 10**6, "kib": 1024, "mib": 2**20}
    number = text.strip().rstrip("BKMbikm")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = -1.0
    if not 0 < size < 2**60:
        raise ConfigError(
            f"--max-size {text}: not a size. Write a number and B, kB, KiB, MB or MiB, such as "
            "64KiB."
        )
    return int(size)


def _merit(trial: TrialRecord) -> tuple[float, float, int]:
    assert trial.val_error is not None
    size_bytes = math.inf if trial.size_bytes is None else trial.size_bytes
    return trial.val_error, size_bytes, trial.number
