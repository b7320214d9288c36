"""What is known after an epoch of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What is known after an epoch. Errors are shares (0..1) of the validation split.

    In a float warm-up (ratio 0 before a quantizer acts) nothing is measured that would depend on
    the quantizer: those fields are None. So all quantizers share one warm-up.

    Attributes:
        epoch: Counted from 1.
        num_epochs: Of the whole training.
        train_loss: Mean of the loss that is optimised over the epoch's training batches, hybrid
            weights: the cross-entropy with the labels, smoothed and mixed as `regularization` says,
            and with the share of soft targets that distillation gives it. It is that of the weights
            that are trained, also where their average (`ema`) is what all else is measured of.
        val_error: With all weights quantized: the one that ranks. While the ratio is below 1,
            batch norm is re-estimated for it. None in a float warm-up.
        val_error_hybrid: Of the hybrid network that is being trained.
        ratio: Share of the rows that was quantized (0..1); 0 for the float quantizer.
        lr: Learning rate at the epoch's last step.
        quantization_error: Mean relative quantization error of all filters. None in a float
            warm-up.
        changed_rows: Share (0..1) of all filters in which a code changed during the epoch. None in
            a float warm-up.
        images_per_second: Of the training steps alone, with torch.compile's own time in epoch 1.
        final: Whether this was the last epoch.
        restored: Whether another training did this epoch, and its checkpoint was taken up.
    """

    epoch: int
    num_epochs: int
    train_loss: float
    val_error: float | None
    val_error_hybrid: float
    ratio: float
    lr: float
    quantization_error: float | None
    changed_rows: float | None
    images_per_second: float
    final: bool
    restored: bool = False

    def metrics(self) -> dict[str, float]:
        """Return the measured figures by name, without those that were not measured."""
        fields = asdict(self)
        return {key: float(fields[key]) for key in METRICS if fields[key] is not None}

    def stored(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: what every training that shares the epoch sees."""
        return {key: value for key, value in asdict(self).items() if key not in OWN}

    @classmethod
    def taken_up(
        cls, stored: Mapping[str, Any], *, num_epochs: int, is_float: bool, restored: bool
    ) -> EpochResult:
        """Return what a training of its own would have yielded for a stored epoch.

        Args:
            stored: What `stored` returned.
            num_epochs: Of the training that takes it up.
            is_float: Whether that one quantizes nothing at any time.
            restored: Whether another one did the epoch.

        Raises:
            TypeError: Fields are missing or unknown.
        """
        final = stored["epoch"] == num_epochs
        result = cls(**stored, num_epochs=num_epochs, final=final, restored=restored)
        if result.ratio > 0:
            return result
        return replace(result, **at_ratio_0(result.val_error_hybrid, is_float=is_float))


def at_ratio_0(val_error: float, *, is_float: bool) -> dict[str, Any]:
    """Return the fields that depend on a quantizer, for an epoch in which none acted.

    A network that is never quantized is what is delivered, with no error of quantization.
    """
    if is_float:
        return {"val_error": val_error, "quantization_error": 0.0, "changed_rows": 0.0}
    return {"val_error": None, "quantization_error": None, "changed_rows": None}


OWN = ("num_epochs", "final", "restored")  # differ between trainings that share an epoch
METRICS = (
    "train_loss",
    "val_error",
    "val_error_hybrid",
    "ratio",
    "lr",
    "quantization_error",
    "changed_rows",
    "images_per_second",
)
