"""A comparison in words: its table, in Markdown too, and who wins where."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from sqtune.config.compare import Budget, Method
from sqtune.search.compare import Cell, Gain, Row, spread_of
from sqtune.search.noise import FEWEST_SEEDS, reach

UNKNOWN = "-"
CUT_SHORT = " *"


def budget_text(budget: Budget, num_epochs: int) -> str:
    """Return what a budget is called; `num_epochs` are those of one stage.

    >>> budget_text("paper", 12), budget_text(4, 12)
    ("the paper's budget", '48 epochs each')
    """
    return "the paper's budget" if budget == "paper" else f"{_epochs(budget * num_epochs)} each"


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' if number > 1 else ''}"


def header(rows: Sequence[Row], num_epochs: int) -> list[str]:
    """Return the columns' names."""
    budgets = [budget_text(budget, num_epochs) for budget in rows[0].cells]
    return ["method", "bits", *budgets, "published"]


def body(rows: Sequence[Row], num_seeds: int) -> list[list[str]]:
    """Return the table's rows: test error in percent, mean ± standard deviation over the seeds.

    Behind a stroke follows the top-5 error, where there is one.
    """
    return [
        [
            row.method.name,
            _bits(row),
            *(
                _cell(cell, num_seeds, with_epochs=budget == "paper")
                for budget, cell in row.cells.items()
            ),
            _published(row.method),
        ]
        for row in rows
    ]


def stacked(rows: Sequence[Row], num_epochs: int, num_seeds: int) -> list[str]:
    """Return the table as lines for a narrow terminal, a method's columns one below another."""
    _, *names = header(rows, num_epochs)
    width = max(map(len, names))
    lines = []
    for method, *cells in body(rows, num_seeds):
        lines.append(method)
        shown = zip(names, cells, strict=True)
        lines += [f"  {name:{width}}  {cell}" for name, cell in shown if cell != UNKNOWN]
    return lines


def _bits(row: Row) -> str:
    known = [cell.bits for cell in row.cells.values() if cell.bits is not None]
    return f"{known[0]:.4g}" if known else UNKNOWN


def _published(method: Method) -> str:
    if method.published is None:
        return UNKNOWN
    top5 = method.published_top5
    return f"{100 * method.published:.2f}" + ("" if top5 is None else f" / {100 * top5:.2f}")


def _mean(errors: Mapping[int, float]) -> str:
    spread = spread_of(errors)
    text = f"{100 * statistics.fmean(errors.values()):.2f}"
    return text if spread is None else f"{text} ± {100 * spread:.2f}"


def _cell(cell: Cell, num_seeds: int, *, with_epochs: bool) -> str:
    text = _mean(cell.test_errors) if cell.test_errors else UNKNOWN
    text += f" / {_mean(cell.top5_errors)}" if cell.top5_errors else ""
    if with_epochs:
        text += f" ({_epochs(cell.num_epochs)})"
    text += CUT_SHORT if cell.cut_short else ""
    if len(cell.test_errors) < num_seeds:
        text += f" [{len(cell.test_errors)} of {num_seeds}]"
    return text + (f" [{len(cell.failures)} failed]" if cell.failures else "")


def legend(rows: Sequence[Row], num_seeds: int) -> list[str]:
    """Return what the figures are."""
    spread = f"mean ± standard deviation over {num_seeds} seeds" if num_seeds > 1 else "one seed"
    top5 = any(cell.top5_errors for row in rows for cell in row.cells.values())
    top5 = top5 or any(row.method.published_top5 is not None for row in rows)
    lines = [f"Test error in %,{' top-1 / top-5,' if top5 else ''} {spread}."]
    if any(cell.cut_short for row in rows for cell in row.cells.values()):
        lines += ["* Fewer epochs than stages: those shorter than an epoch were passed over."]
    return lines


def verdicts(rows: Sequence[Row], num_epochs: int) -> Iterator[str]:
    """Yield, for each method that is to beat another, by how much it does at each budget.

    A lead is one where its 95 % interval, by Student's t over three seeds or more, leaves 0 out.
    """
    for row in rows:
        for budget, gain in row.gains.items():
            if row.method.against is None:
                continue
            if gain is None:
                where = budget_text(budget, num_epochs)
                yield f"{row.method.name} against {row.method.against}, {where}: no result"
                continue
            spread = gain.standard_error
            line = f"{row.method.name} against {row.method.against}, "
            line += f"{budget_text(budget, num_epochs)}: {100 * gain.mean:+.2f} points"
            if spread is None:
                yield f"{line} (one seed)"
                continue
            yield f"{line} ± {100 * spread:.2f}, {_word(gain)}"


def _word(gain: Gain) -> str:
    """Return whether the 95 % interval of a mean difference leaves 0 out, by Student's t."""
    if gain.num_seeds < FEWEST_SEEDS or gain.standard_error is None:
        return "too few seeds to tell"
    if abs(gain.mean) <= reach(gain.standard_error, gain.num_seeds - 1):
        return "within the noise"
    return "ahead" if gain.mean > 0 else "behind"


def failures(rows: Sequence[Row], num_epochs: int) -> Iterator[str]:
    """Yield a line for each training that failed: which one, and why; those of two budgets once."""
    told = set()
    for row in rows:
        for budget, cell in row.cells.items():
            for seed, reason in cell.failures.items():
                if (row.method.name, cell.num_epochs, seed) not in told:
                    told.add((row.method.name, cell.num_epochs, seed))
                    where = budget_text(budget, num_epochs)
                    yield f"{row.method.name}, {where}, seed {seed}: {reason}"


def markdown(
    title: str, rows: Sequence[Row], num_epochs: int, num_seeds: int, facts: Mapping[str, str]
) -> str:
    """Return the comparison as a Markdown document.

    Args:
        title: Its heading.
        rows: At least one.
        num_epochs: Epochs of one stage.
        num_seeds: Trainings of each method at each budget.
        facts: What it was measured with, in words.
    """
    names = header(rows, num_epochs)
    aligned = ["---", *["---:"] * (len(names) - 1)]
    table = [_line(each) for each in (names, aligned, *body(rows, num_seeds))]
    leads = [f"- {line}" for line in verdicts(rows, num_epochs)]
    if leads:
        leads = [
            "",
            "Leads, seed by seed: mean ± standard error, above 0 where the first one errs less.",
            "From three seeds on it is ahead or behind where its 95 % interval leaves 0 out.",
            "",
            *leads,
        ]
    failed = [f"- {line}" for line in failures(rows, num_epochs)]
    if failed:
        failed = ["", "What failed, and why:", "", *failed]
    known = [f"- {key}: {value}" for key, value in facts.items()]
    lines = [
        f"# {title}",
        "",
        *legend(rows, num_seeds),
        "",
        *table,
        *leads,
        *failed,
        "",
        *known,
        "",
        "![chart](compare.svg)",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
