"""What a ratio schedule rejects: each message names the rule and the value."""

import math
from typing import Any, get_args

import pytest

from sqtune.errors import QuantizationError
from sqtune.quant import Average, CosineRise, Cubic, Exponential, Linear, Schedule, Stages

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
    *(
        (kind, options, message)
        for kind in (Linear, Cubic, CosineRise)
        for options, message in [
            ({"warmup": 1.0}, r"warmup is a share of training in \[0, 1\), not 1.0"),
            ({"start": -0.1}, r"start is a ratio in \[0, 1\], not -0.1"),
            ({"start": 1.1}, r"start is a ratio in \[0, 1\], not 1.1"),
            ({"start": math.nan}, "start .* not nan"),
            ({"reach": 1.1}, "at most 1, not 1.1"),
            ({"reach": 0.0}, r"after the warm-up \(0.0\) and at most 1, not 0.0"),
            ({"reach": 0.5, "warmup": 0.5}, r"after the warm-up \(0.5\) .* not 0.5"),
            ({"reach": math.nan}, "reach .* not nan"),
        ]
    ),
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


def test_every_schedule_there_is_rejects_something() -> None:
    assert {kind for kind, _, _ in REJECTED} == set(get_args(Schedule))
