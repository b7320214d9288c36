"""What people read: one trial as a line, many as a table, everything as plain data for --json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

from rich.table import Table
from rich.text import Text

from sqtune.config.options import Objective, Target
from sqtune.config.parameters import label
from sqtune.config.trial import TrialConfig
from sqtune.quant import Float, Quantizer, epoch_ratio
from sqtune.search.fitting import laid_out
from sqtune.search.pareto import front, ranking, standard_error
from sqtune.search.records import State, TrialRecord, reason_of
from sqtune.search.wording import count_text, kib, percent


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


AT_ONCE = "none (all at once)"


def is_at_once(config: TrialConfig) -> bool:
    """Tell whether all filters are quantized from the first epoch on, so that none is drawn."""
    return epoch_ratio(config.schedule, 1, config.num_epochs) == 1


def schedule_text(config: TrialConfig) -> str:
    """Return the ratio schedule in a few words, without what is at its default."""
    if is_at_once(config):
        return AT_ONCE
    schedule = config.schedule
    nested = config.nested()["schedule"]
    plain = type(schedule)()
    changed = {k: v for k, v in nested.items() if getattr(schedule, k) != getattr(plain, k)}
    return label({"name": schedule.name, **changed})


def selection_text(config: TrialConfig) -> str:
    """Return how rows are selected in a few words; "-" where none is."""
    if is_at_once(config):
        return "-"
    selection = config.selection
    drawn = selection.strategy == "stochastic"
    how = selection.function if drawn else selection.strategy
    return f"{how}/{selection.granularity}"


def trial_line(trial: TrialRecord) -> str:
    """Return an ended trial as one plain line."""
    config = trial.config
    name = f"trial {trial.number:>3}"
    if trial.val_error is None:
        reason = reason_of(trial.failure or trial.why or trial.state)
        return f"{name}  {state_text(trial)}: {reason}"
    error = percent(trial.val_error, trial.facts.get("num_validation"))
    line = (
        f"{name}  error {error} %  {bits_text(trial)}  {kib(trial.size_bytes)}  "
        f"{quantizer_text(config)}  {schedule_text(config)}  {selection_text(config)}  "
        f"lr {config.optimizer.lr:.3g}"
    )
    same = trial.duplicate_of
    return line if same is None else f"{line}  as trial {same}, which it repeats"


def state_text(trial: TrialRecord) -> str:
    """Return a trial's state; of one that has begun and is not at its end, with its epochs."""
    if trial.state not in ("running", "interrupted", "stopped", "paused"):
        return trial.state
    return f"{trial.state} {len(trial.epochs)}/{trial.config.num_epochs}"


def counts_text(trials: Sequence[TrialRecord]) -> str:
    """Return how many trials are in which state: "20 finished, 3 refused"."""
    counts = Counter(
        "repeated" if trial.duplicate_of is not None else trial.state for trial in trials
    )
    order = ("finished", "repeated", *(state for state in get_args(State) if state != "finished"))
    return ", ".join(f"{counts[s]} {s}" for s in order if counts[s]) or "no trials yet"


def trials_table(
    trials: Sequence[TrialRecord],
    most: int | None = None,
    *,
    objectives: Sequence[Objective] = ("val_error",),
    target: Target | None = None,
    width: int | None = None,
    leader: TrialRecord | None = None,
) -> Table:
    """Return a table of the finished trials, best first, then of those that are not.

    Refused trials and those that repeat another are left out. Bits of activations have a column
    where some trial has low ones, RAM and multiply-adds where the target limits them, bit
    operations where they are an objective. With several objectives the front is marked.

    Args:
        trials: Of a study.
        most: Rows to show; by default all.
        objectives: What the study minimises.
        target: What its networks have to fit into.
        width: Of the terminal, which has to hold it; None has all columns.
        leader: What the study hands over, in bold.
    """
    listed = [t for t in trials if t.state != "refused" and t.duplicate_of is None]
    ranked = ranking(listed)
    shown = (ranked + [trial for trial in listed if trial.val_error is None])[:most]
    on_front = {trial.number for trial in front(trials, objectives)}
    columns = [*_columns(shown, objectives, target), *_searched_columns(shown)]
    rows = [[column.cell(trial) for column in columns] for trial in shown]
    for trial, cells in zip(shown, rows, strict=True):
        if len(objectives) > 1 and trial.number in on_front:
            cells[0] = f"* {trial.number}"
    table, left_out = laid_out(columns, rows, width)
    for trial, cells in zip(shown, rows, strict=True):
        table.add_row(*cells[: len(table.columns)], style="bold" if trial is leader else None)
    notes = [f"* on the front of {' and '.join(objectives)}"] if len(objectives) > 1 else []
    notes += [f"in a wider terminal also: {', '.join(left_out)}"] if left_out else []
    table.caption, table.caption_justify = "\n".join(notes) or None, "left"
    return table


def epochs_line(trials: Sequence[TrialRecord]) -> list[str]:
    """Return what sharing and early stopping saved, as one line; none before anything is saved.

    Asked for are the epochs that the trials would have trained alone and to their end.
    """
    begun = [trial for trial in trials if trial.epochs and trial.duplicate_of is None]
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


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cell: Callable[[TrialRecord], Text | str]
    justify: Literal["left", "right"] = "right"
    no_wrap: bool = True


def _columns(
    shown: Sequence[TrialRecord], objectives: Sequence[Objective], target: Target | None
) -> Iterator[_Column]:
    yield _Column("trial", lambda trial: str(trial.number))
    yield _Column("error %", _error_cell)
    yield _Column("bits", weight_bits_text)
    if any(activation_bits(trial.config) != 32 for trial in shown):
        yield _Column("act", lambda trial: str(activation_bits(trial.config)))
    yield _Column("size", lambda trial: kib(trial.size_bytes))
    if target is not None and target.max_ram is not None:
        yield _Column("RAM", lambda trial: kib(trial.facts.get("ram_bytes")))
    if target is not None and target.max_macs is not None:
        yield _Column("MACs", lambda trial: count_text(trial.facts.get("macs")))
    if "bit_operations" in objectives:
        yield _Column("bit ops", lambda trial: count_text(trial.facts.get("bit_operations")))
    yield _Column("quantizer", lambda trial: quantizer_text(trial.config), "left", False)
    yield _Column("ratio schedule", lambda trial: schedule_text(trial.config), "left", False)
    yield _Column("selection", lambda trial: selection_text(trial.config), "left")
    yield _Column("lr", lambda trial: f"{trial.config.optimizer.lr:.3g}")


def _error_cell(trial: TrialRecord) -> Text | str:
    if trial.val_error is None:
        return Text(state_text(trial), style="dim")
    return percent(trial.val_error, trial.facts.get("num_validation"))


def _searched_columns(shown: Sequence[TrialRecord]) -> Iterator[_Column]:
    """Yield a column for each searched value that no other column shows."""
    for path in sorted({path for trial in shown for path in trial.values if not _has_column(path)}):
        name = ".".join(path.split(".")[-2:])
        yield _Column(name, partial(_value_cell, path), no_wrap=False)


def _value_cell(path: str, trial: TrialRecord) -> str:
    return label(trial.values.get(path, ""))


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
        "test_top5_error": trial.facts.get("test_top5_error"),
        "bits": trial.weight_bits,
        "activation_bits": activation_bits(trial.config),
        "size_bytes": trial.size_bytes,
        "ram_bytes": trial.facts.get("ram_bytes"),
        "macs": trial.facts.get("macs"),
        "bit_operations": trial.facts.get("bit_operations"),
        "epochs_done": len(trial.epochs),
        "epochs_trained": trial.epochs_trained,
        "config": trial.config.nested(),
        "failure": trial.failure,
        "why": trial.why,
        "duplicate_of": trial.duplicate_of,
        "run_id": trial.run_id,
    }
