"""The table of trials: every trial a row, every searched value a column; sorted on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqtune.config.parameters import label
from sqtune.report.facts import Report
from sqtune.search.pareto import standard_error
from sqtune.search.records import TrialRecord, reason_of
from sqtune.search.tables import (
    AT_ONCE,
    activation_bits,
    is_at_once,
    quantizer_text,
    state_text,
    weight_bits_text,
)
from sqtune.search.wording import count_text, duration


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell says, and the number or text by which it is sorted; None comes last."""

    text: str
    key: float | str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A trial. `groups` are the choices of the page's filter that it belongs to."""

    number: int
    groups: str
    best: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns with their names and whether they hold numbers; rows, best first."""

    columns: tuple[tuple[str, bool], ...]
    rows: tuple[Row, ...]
    groups: tuple[str, ...]


NOTHING = Cell("", None)
FRONT = "on the front"


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cell: Callable[[TrialRecord], Cell]
    numeric: bool = True


def trials_table(report: Report) -> Table:
    """Return the trials that are shown: the finished ones, best first, then the others."""
    ordered = report.shown
    columns = list(_columns(report))
    rows = [
        Row(
            number=trial.number,
            groups="|".join(_groups(report, trial)),
            best=trial is report.winner,
            cells=tuple(column.cell(trial) for column in columns),
        )
        for trial in ordered
    ]
    seen = dict.fromkeys(group for trial in ordered for group in _groups(report, trial))
    names = tuple((column.name, column.numeric) for column in columns)
    return Table(names, tuple(rows), tuple(seen))


def _groups(report: Report, trial: TrialRecord) -> Iterator[str]:
    if trial.number in report.on_front:
        yield FRONT
    yield "repeated" if trial.duplicate_of is not None else trial.state


def _columns(report: Report) -> Iterator[_Column]:
    trials = report.shown
    paths = sorted({path for trial in trials for path in trial.values})
    schedule = [path for path in paths if path.split(".")[0] == "schedule"]
    yield _Column("trial", lambda trial: Cell(str(trial.number), trial.number))
    yield _Column("state", _state, numeric=False)
    yield _Column("error %", lambda trial: _percent(trial.val_error))
    yield _Column("±", lambda trial: _percent(_spread(trial)))
    if any(trial.test_error is not None for trial in trials):
        yield _Column("test error %", lambda trial: _percent(trial.test_error))
    yield _Column("size KiB", lambda trial: _number(trial.size_bytes, 1024, ",.1f"))
    yield from (_searched(path, trials) for path in schedule)
    yield _Column("bits", _bits)
    if any(activation_bits(trial.config) != 32 for trial in trials):
        yield _Column("activation bits", lambda trial: _number(activation_bits(trial.config)))
    for fact, name in _asked_for(report):
        yield _Column(name, _fact(fact))
    yield _Column("epochs", lambda trial: Cell(str(len(trial.epochs)), len(trial.epochs)))
    yield _Column("time", _time)
    if not any(path.startswith("quantizer") for path in paths):
        yield _Column("quantizer", lambda trial: _text(quantizer_text(trial.config)), numeric=False)
    yield from (_searched(path, trials) for path in paths if path not in schedule)
    if any(_note(trial) for trial in trials):
        yield _Column("note", lambda trial: _text(_note(trial)), numeric=False)


def _searched(path: str, trials: Sequence[TrialRecord]) -> _Column:
    numeric = all(_is_number(trial.values.get(path, 0)) for trial in trials)
    return _Column(path, _value(path), numeric)


def _asked_for(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the facts that the study limits or minimises, with the names of their columns."""
    target, objectives = report.space.target, report.space.search.objectives
    if target is not None and target.max_ram is not None:
        yield "ram_bytes", "RAM KiB"
    if target is not None and target.max_macs is not None:
        yield "macs", "MACs"
    if "bit_operations" in objectives:
        yield "bit_operations", "bit ops"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(text: str) -> Cell:
    return Cell(text, text.casefold() or None)


def _number(value: float | None, unit: float = 1, form: str = ",g") -> Cell:
    return NOTHING if value is None else Cell(format(value / unit, form), value)


def _percent(error: float | None) -> Cell:
    return NOTHING if error is None else Cell(f"{100 * error:.2f}", error)


def _spread(trial: TrialRecord) -> float | None:
    images = trial.facts.get("num_validation")
    return (
        None if trial.val_error is None or not images else standard_error(trial.val_error, images)
    )


def _state(trial: TrialRecord) -> Cell:
    return _text("repeated" if trial.duplicate_of is not None else state_text(trial))


def _bits(trial: TrialRecord) -> Cell:
    return Cell(weight_bits_text(trial), trial.weight_bits)


def _time(trial: TrialRecord) -> Cell:
    return NOTHING if not trial.seconds else Cell(duration(trial.seconds), trial.seconds)


def _fact(name: str) -> Callable[[TrialRecord], Cell]:
    def cell(trial: TrialRecord) -> Cell:
        value = trial.facts.get(name)
        if name == "ram_bytes":
            return _number(value, 1024, ",.1f")
        return NOTHING if value is None else Cell(count_text(value), value)

    return cell


def _value(path: str) -> Callable[[TrialRecord], Cell]:
    def cell(trial: TrialRecord) -> Cell:
        if path not in trial.values:
            return NOTHING
        if path in ("schedule", "schedule.name") and is_at_once(trial.config):
            return _text(AT_ONCE)
        if path.split(".", maxsplit=1)[0] == "selection" and is_at_once(trial.config):
            return _text("-")
        value = trial.values[path]
        if not _is_number(value):
            return _text(label(value))
        return Cell(str(value) if isinstance(value, int) else f"{value:.4g}", value)

    return cell


def _note(trial: TrialRecord) -> str:
    if trial.duplicate_of is not None:
        return f"as trial {trial.duplicate_of}, which it repeats"
    if trial.state == "failed":
        return reason_of(trial.failure)
    return trial.why or ""
