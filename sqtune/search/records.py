"""What is known of one trial, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqtune.config.trial import TrialConfig

State = Literal["running", "interrupted", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What the study knows of one trial. Errors are shares (0..1) of the validation split.

    Attributes:
        number: Counted from 0.
        state: running, interrupted, finished or failed.
        values: Sampled values by dotted path, choices by their label.
        config: What is trained.
        epochs: Metrics of each epoch so far, the first at index 0; "time" is in ms since 1970.
        facts: What was reported at the end: size_bytes, weight_bits, num_validation, node, ...
        failure: Why it failed.
        run_id: Its MLflow run.
        test_error: Error on the test split, for the network that was chosen.
    """

    number: int
    state: State
    values: dict[str, Any]
    config: TrialConfig
    epochs: tuple[dict[str, float], ...]
    facts: dict[str, Any]
    failure: str | None
    run_id: str | None
    test_error: float | None

    @property
    def val_error(self) -> float | None:
        """The last epoch's validation error, all weights quantized; None before the end."""
        return self.epochs[-1]["val_error"] if self.state == "finished" else None

    @property
    def size_bytes(self) -> int | None:
        """Predicted size of the exported file."""
        return self.facts.get("size_bytes")

    @property
    def weight_bits(self) -> float | None:
        """Average bits of the weights, 32 where they stay float.

        None where layers have quantizers of their own and the trial has not reported it yet.
        """
        alike = None if self.config.rules else self.config.quantizer.bits
        return self.facts.get("weight_bits", alike)
