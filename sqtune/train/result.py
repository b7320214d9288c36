"""What is known after an epoch of training."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What is known after an epoch. Errors are shares (0..1) of the validation split.

    Attributes:
        epoch: Counted from 1.
        num_epochs: Of the whole training.
        train_loss: Mean of the loss that is optimised over the epoch's training batches, hybrid
            weights: the cross-entropy, with the share of soft targets that distillation gives it.
        val_error: With all weights quantized: the one that ranks. While the ratio is below 1,
            batch norm is re-estimated for it.
        val_error_hybrid: Of the hybrid network that is being trained.
        ratio: Share of the rows that was quantized (0..1); 0 for the float quantizer.
        lr: Learning rate at the epoch's last step.
        quantization_error: Mean relative quantization error of all filters.
        changed_rows: Share (0..1) of all filters in which a code changed during the epoch.
        images_per_second: Of the training steps alone, with torch.compile's own time in epoch 1.
        final: Whether this was the last epoch.
    """

    epoch: int
    num_epochs: int
    train_loss: float
    val_error: float
    val_error_hybrid: float
    ratio: float
    lr: float
    quantization_error: float
    changed_rows: float
    images_per_second: float
    final: bool

    def metrics(self) -> dict[str, float]:
        """Return the measured figures by name."""
        fields = asdict(self)
        return {key: float(fields[key]) for key in METRICS}


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
