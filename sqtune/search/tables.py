"""What people read: one trial as a line, many as a table, everything as plain data for --json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sqtune.config.parameters import label
from sqtune.config.trial import TrialConfig
from sqtune.quant import Float, Quantizer
from sqtune.search.pareto import best, ranking, standard_error
from sqtune.search.records import TrialRecord


def percent(error: float, num_images: int | None = None) -> str:
    """Return an error (0..1) in percent, with its standard error where the images are known.

    >>> percent(0.02, 449)
    '2.00 ± 0.66'
    """
    text = f"{100 * error:.2f}"
    if num_images:
        text += f" ± {100 * standard_error(error, num_images):.2f}"
    return text


def kib(size_bytes: int | None) -> str:
    """Return a size in KiB (1,024 bytes)."""
    return "?" if size_bytes is None else f"{size_bytes / 1024:.1f} KiB"


def duration(seconds: float) -> str:
    """Return a time as minutes:seconds, or hours:minutes:seconds.

    >>> duration(83), duration(3700)
    ('1:23', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def weight_bits_text(trial: TrialRecord) -> str:
    """Return the average bits of a trial's weights: "2", "2.3"; "?" where they are not known."""
    bits = trial.weight_bits
    if bits is None:
        return "?"
    return str(int(bits)) if bits == int(bits) else f"{bits:.1f}"


def bits_text(trial: TrialRecord) -> str:
    """Return the bits of weights and, where they are low, of activations: "2.3 bit", "w1 a4"."""
    weights, bits = weight_bits_text(trial), activation_bits(trial.config)
    return f"{weights} bit" if bits == 32 else f"w{weights} a{bits}"


def activation_bits(config: TrialConfig) -> int:
    """Return the bits of the inputs of quantized layers; 32 where no layer is quantized."""
    quantizers = (config.quantizer, *(rule.quantizer for rule in config.rules))
    only_float = all(isinstance(quantizer, Float) for quantizer in quantizers)
    return 32 if only_float else config.activation_bits


COLUMNS = ("quantizer", "overrides", "keep_float", "schedule", "selection.function")


def _has_column(path: str) -> bool:
    """Tell whether the table shows a searched value in one of its own columns."""
    shown = (*COLUMNS, "selection.granularity", "optimizer.lr", "activation_bits")
    return any(path == one or path.startswith(f"{one}.") for one in shown)


def quantizer_text(config: TrialConfig) -> str:
    """Return the quantizers in a few words; the bits of a single one have a column of their own."""
    quantizer = config.quantizer
    if not config.rules:
        return _quantizer_label(quantizer, bits=False)
    rules = (f"{rule.match}: {_quantizer_label(rule.quantizer)}" for rule in config.rules)
    return ", ".join((_quantizer_label(quantizer), *rules))


def _quantizer_label(quantizer: Quantizer, *, bits: bool = True) -> str:
    fields = asdict(quantizer)
    fields.pop("scale_steps", None)
    if not bits:
        fields.pop("bits", None)
    return label(fields).replace("threshold=", "").replace("bits=", "")


def schedule_text(config: TrialConfig) -> str:
    """Return the ratio schedule in a few words, without what is at its default."""
    schedule = config.schedule
    nested = config.nested()["schedule"]
    plain = type(schedule)()
    changed = {k: v for k, v in nested.items() if getattr(schedule, k) != getattr(plain, k)}
    return label({"name": schedule.name, **changed})


def selection_text(config: TrialConfig) -> str:
    """Return how rows are selected in a few words."""
    selection = config.selection
    drawn = selection.strategy == "stochastic"
    how = selection.function if drawn else selection.strategy
    return f"{how}/{selection.granularity}"


def trial_line(trial: TrialRecord) -> str:
    """Return an ended trial as one plain line."""
    config = trial.config
    name = f"trial {trial.number:>3}"
    if trial.val_error is None:
        reason = (trial.failure or trial.state).strip().splitlines()[-1]
        return f"{name}  {trial.state}: {reason}"
    error = percent(trial.val_error, trial.facts.get("num_validation"))
    return (
        f"{name}  error {error} %  {bits_text(trial)}  {kib(trial.size_bytes)}  "
        f"{quantizer_text(config)}  {schedule_text(config)}  {selection_text(config)}  "
        f"lr {config.optimizer.lr:.3g}"
    )


def trials_table(trials: Sequence[TrialRecord], most: int | None = None) -> Table:
    """Return a table of the finished trials, best first, then of the others.

    Bits of activations have a column where some trial has low ones.
    """
    ranked = ranking(trials)
    others = [trial for trial in trials if trial.val_error is None]
    shown = (ranked + others)[:most]
    leader = best(trials)
    low_bit_activations = any(activation_bits(trial.config) != 32 for trial in shown)
    searched = sorted({path for trial in shown for path in trial.values if not _has_column(path)})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("error %", justify="right", no_wrap=True)
    table.add_column("bits", justify="right", no_wrap=True)
    if low_bit_activations:
        table.add_column("act", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("quantizer")
    table.add_column("ratio schedule")
    table.add_column("selection", no_wrap=True)
    table.add_column("lr", justify="right", no_wrap=True)
    for path in searched:
        table.add_column(".".join(path.split(".")[-2:]), justify="right")
    for trial in shown:
        config = trial.config
        if trial.val_error is None:
            error: Text | str = Text(trial.state, style="dim")
        else:
            error = percent(trial.val_error, trial.facts.get("num_validation"))
        table.add_row(
            str(trial.number),
            error,
            weight_bits_text(trial),
            *([str(activation_bits(config))] if low_bit_activations else []),
            kib(trial.size_bytes),
            quantizer_text(config),
            schedule_text(config),
            selection_text(config),
            f"{config.optimizer.lr:.3g}",
            *(label(trial.values.get(path, "")) for path in searched),
            style="bold" if trial is leader else None,
        )
    return table


def epochs_line(trials: Sequence[TrialRecord]) -> list[str]:
    """Return what sharing and early stopping saved, as one line; none before anything is saved.

    Asked for are the epochs that the trials would have trained alone and to their end.
    """
    begun = [trial for trial in trials if trial.epochs or trial.duplicate_of is not None]
    asked = sum(trial.epochs_asked for trial in begun)
    trained = sum(trial.epochs_trained for trial in begun)
    running = any(trial.state in ("running", "interrupted", "paused") for trial in begun)
    if not asked or running or trained >= asked:
        return []
    shared = sum(trial.epochs_shared for trial in begun)
    return [
        f"epochs    {trained} trained of {asked} asked for ({100 * trained / asked:.0f} %): "
        f"{shared} shared, {asked - trained - shared} not begun"
    ]


def as_data(trial: TrialRecord) -> dict[str, Any]:
    """Return a trial as plain data; errors are shares (0..1)."""
    num_validation = trial.facts.get("num_validation")
    error = trial.val_error
    return {
        "number": trial.number,
        "state": trial.state,
        "val_error": error,
        "val_error_standard_error": (
            standard_error(error, num_validation) if error is not None and num_validation else None
        ),
        "test_error": trial.test_error,
        "bits": trial.weight_bits,
        "activation_bits": activation_bits(trial.config),
        "size_bytes": trial.size_bytes,
        "epochs_done": len(trial.epochs),
        "config": trial.config.nested(),
        "failure": trial.failure,
        "run_id": trial.run_id,
    }
