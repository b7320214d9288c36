"""What is known of one trial, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqtune.config.trial import TrialConfig

State = Literal["running", "interrupted", "paused", "finished", "stopped", "refused", "failed"]
ENDED: tuple[State, ...] = ("finished", "stopped", "refused", "failed")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What the study knows of one trial. Errors are shares (0..1) of the validation split.

    Attributes:
        number: Counted from 0; some numbers are missing where a study was warm-started.
        state: `running`; `interrupted` where its driver was, `paused` at a rung, both to go on;
            `finished`; `stopped` early at a rung; `refused` untrained as it does not fit the
            target; `failed`.
        values: Sampled values by dotted path, choices by their label.
        config: What is trained.
        epochs: Metrics of each epoch so far, the first at index 0; "time" is in ms since 1970,
            "restored" is 1 where another trial trained it. Where nothing is quantized yet there is
            no "val_error".
        facts: What is known beside the epochs: size_bytes, weight_bits, num_validation, node, ...;
            num_test, the images of the test split, where its error was measured, and
            test_top5_error (0..1), where there are more than ten classes.
        failure: Why it failed.
        run_id: Its MLflow run.
        test_error: Error on the test split, for the network that was chosen.
        why: Why it was refused or stopped.
        duplicate_of: The finished trial of the same configuration whose results these are.
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
    why: str | None = None
    duplicate_of: int | None = None

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

    @property
    def ended(self) -> bool:
        """Whether it will not go on."""
        return self.state in ENDED

    @property
    def counts(self) -> bool:
        """Whether it ended and counts for `num_trials`: refused and repeated ones do not."""
        return self.ended and self.state != "refused" and self.duplicate_of is None

    @property
    def epochs_asked(self) -> int:
        """Epochs that its training takes alone and to its end; 0 where it is not trained at all."""
        never = self.state == "refused" or self.duplicate_of is not None
        return 0 if never else self.config.num_epochs

    @property
    def epochs_trained(self) -> int:
        """Epochs that were trained for it, and not by another trial."""
        own = () if self.duplicate_of is not None else self.epochs
        return sum(not epoch.get("restored") for epoch in own)

    @property
    def epochs_shared(self) -> int:
        """Epochs that another trial trained for it."""
        own = () if self.duplicate_of is not None else self.epochs
        return sum(bool(epoch.get("restored")) for epoch in own)

    @property
    def seconds(self) -> float:
        """How long its own epochs took, on one slot."""
        own = () if self.duplicate_of is not None else self.epochs
        return sum(epoch.get("seconds", 0.0) for epoch in own if not epoch.get("restored"))


def reason_of(failure: str | None) -> str:
    r"""Return why a trial failed in one line: what was raised, or the last line of a plain text.

    What is raised may have several lines, of which the first one says what happened.

    >>> reason_of('Traceback:\n  File "a.py", line 1\n    f()\nCUDA error: assert\nCompile with')
    'CUDA error: assert'
    >>> reason_of("Traceback\nthe loss became nan"), reason_of(" "), reason_of(None)
    ('the loss became nan', 'no reason is known', 'no reason is known')
    """
    lines = [line for line in (failure or "").splitlines() if line.strip()]
    calls = [place for place, line in enumerate(lines) if line.startswith('  File "')]
    raised = lines[calls[-1] :] if calls else []
    first = next((line for line in raised if not line.startswith(" ")), None)
    return (first or next(reversed(lines), "no reason is known")).strip()
