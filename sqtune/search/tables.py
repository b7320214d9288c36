"""What people read: one trial as a line, many as a table, everything as plain data for --json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sqtune.config.space import label
from sqtune.config.trial import TrialConfig
from sqtune.search.pareto import ranking, standard_error
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


def quantizer_text(config: TrialConfig) -> str:
    """Return the quantizer in a few words."""
    nested = config.nested()["quantizer"]
    nested.pop("bits", None)  # has a column of its own
    nested.pop("scale_steps", None)
    return label(nested).replace("threshold=", "")


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
        f"{name}  error {error} %  {config.quantizer.bits} bit  {kib(trial.size_bytes)}  "
        f"{quantizer_text(config)}  {schedule_text(config)}  {selection_text(config)}  "
        f"lr {config.optimizer.lr:.3g}"
    )


def trials_table(trials: Sequence[TrialRecord], most: int | None = None) -> Table:
    """Return a table of the finished trials, best first, then of the others."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("error %", justify="right", no_wrap=True)
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("quantizer")
    table.add_column("ratio schedule")
    table.add_column("selection", no_wrap=True)
    table.add_column("lr", justify="right", no_wrap=True)
    ranked = ranking(trials)
    others = [trial for trial in trials if trial.val_error is None]
    for trial in (ranked + others)[:most]:
        config = trial.config
        if trial.val_error is None:
            error: Text | str = Text(trial.state, style="dim")
        else:
            error = percent(trial.val_error, trial.facts.get("num_validation"))
        table.add_row(
            str(trial.number),
            error,
            str(config.quantizer.bits),
            kib(trial.size_bytes),
            quantizer_text(config),
            schedule_text(config),
            selection_text(config),
            f"{config.optimizer.lr:.3g}",
            style="bold" if ranked and trial is ranked[0] else None,
        )
    return table


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
        "bits": trial.config.quantizer.bits,
        "size_bytes": trial.size_bytes,
        "epochs_done": len(trial.epochs),
        "config": trial.config.nested(),
        "failure": trial.failure,
        "run_id": trial.run_id,
    }
