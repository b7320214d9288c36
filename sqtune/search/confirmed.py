"""What a confirmation came to: means over new seeds, how sure they are, and how they are kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqtune.search.noise import FEWEST_SEEDS, is_noise
from sqtune.search.wording import plural

ATTRIBUTE = "confirmed"  # of a study; confirmed.200 where all were trained for 200 epochs instead


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One configuration over several seeds. Errors are shares (0..1) of the validation split.

    Attributes:
        trial: The trial's number in the study that was confirmed.
        first_error: What was measured there, once.
        errors: What new seeds gave, by seed.
        failed: Seeds whose training failed.
        size_bytes: Predicted size of the exported file.
    """

    trial: int
    first_error: float
    errors: tuple[float, ...]
    failed: int
    size_bytes: int | None

    @property
    def mean(self) -> float:
        """Mean of the new errors."""
        return statistics.fmean(self.errors)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean over the seeds; None of a single one."""
        return None if self.deviation is None else self.deviation / len(self.errors) ** 0.5

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        derived = {"mean": self.mean, "deviation": self.deviation} if self.errors else {}
        return {**asdict(self), "errors": list(self.errors), **derived}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Confirmed:
        """Return what `as_data` was called on."""
        known = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{**known, "errors": tuple(data["errors"])})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What was confirmed of a study at one budget.

    Attributes:
        study: Name of the confirmation, a study of its own.
        num_epochs: What all were trained for instead; None where each was trained as before.
        results: Lowest mean first.
    """

    study: str
    num_epochs: int | None
    results: tuple[Confirmed, ...]

    @property
    def attribute(self) -> str:
        """The attribute of the confirmed study that has it."""
        return ATTRIBUTE if self.num_epochs is None else f"{ATTRIBUTE}.{self.num_epochs}"

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        results = [each.as_data() for each in self.results]
        return {"study": self.study, "num_epochs": self.num_epochs, "results": results}


def confirmations(study: str, attrs: Mapping[str, Any]) -> list[Confirmation]:
    """Return what was confirmed of a study: trained as there, then at other budgets, long first.

    Args:
        study: Its name.
        attrs: Its attributes.
    """
    found = [
        Confirmation(
            told["study"],
            told["num_epochs"] if "num_epochs" in told else _budget(study, told["study"]),
            tuple(Confirmed.from_data(each) for each in told["results"]),
        )
        for key, told in attrs.items()
        if key == ATTRIBUTE or key.startswith(f"{ATTRIBUTE}.")
    ]
    return sorted(found, key=lambda each: (each.num_epochs is not None, -(each.num_epochs or 0)))


def _budget(study: str, confirmation: str) -> int | None:
    """Return the budget in a confirmation's name, where it was not yet kept beside it."""
    epochs = confirmation.removeprefix(f"{study}-confirm-")
    return int(epochs) if epochs.isdecimal() else None


def mean_text(result: Confirmed) -> str:
    """Return the mean error over new seeds with its standard error, as "1.96 ± 0.84 %"."""
    spread = "" if result.standard_error is None else f" ± {100 * result.standard_error:.2f}"
    return f"{100 * result.mean:.2f}{spread} %"


def over_seeds(result: Confirmed) -> str:
    """Return the mean with the seeds it is over: "mean over 2 new seeds 1.96 ± 0.84 %"."""
    return f"mean over {plural(len(result.errors), 'new seed')} {mean_text(result)}"


def rivals(results: Sequence[Confirmed]) -> list[Confirmed]:
    """Return those whose mean differs from the lowest one's by no more than noise.

    None is told apart by fewer than three seeds of either: those are left out.

    Args:
        results: One or more with errors, lowest mean first.
    """
    first, *others = results
    return [
        each
        for each in others
        if min(len(first.errors), len(each.errors)) >= FEWEST_SEEDS and _is_noise(first, each)
    ]


def _is_noise(first: Confirmed, other: Confirmed) -> bool:
    assert first.standard_error is not None
    assert other.standard_error is not None
    spreads = first.standard_error, other.standard_error
    return is_noise(other.mean - first.mean, spreads, (len(first.errors), len(other.errors)))


def lead(results: Sequence[Confirmed]) -> str:
    """Return in words how far the lowest mean is ahead of the others; nothing where it is alone.

    Args:
        results: One or more with errors, lowest mean first.
    """
    if len(results[0].errors) < FEWEST_SEEDS:
        return "too few seeds to tell how sure that is"
    words = []
    if near := rivals(results):
        words.append(f"{_named(near)} {'is' if len(near) == 1 else 'are'} within the noise of it")
    if few := [each for each in results[1:] if len(each.errors) < FEWEST_SEEDS]:
        words.append(f"{_named(few)} {'has' if len(few) == 1 else 'have'} too few seeds to tell")
    alone = "no other that was confirmed is within the noise of it" if results[1:] else ""
    return " and ".join(words) or alone


def _named(results: Sequence[Confirmed]) -> str:
    numbers = ", ".join(str(each.trial) for each in results)
    return f"trial{'s'[: len(results) > 1]} {numbers}"
