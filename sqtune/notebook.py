"""A study as notebooks and programs see it: tables, the front, the best network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from sqtune.config.space import SearchSpace
from sqtune.config.units import parse_share, parse_size
from sqtune.errors import ConfigError, TrackingError
from sqtune.frames import trials_table
from sqtune.output import console
from sqtune.search import pareto
from sqtune.search.choice import choose, is_best
from sqtune.search.chosen import Chosen, asked_for, chosen_network
from sqtune.search.endings import nothing_fits
from sqtune.search.limits import Ending
from sqtune.search.outcome import Places
from sqtune.search.records import TrialRecord
from sqtune.search.tables import as_data, counts_text, trial_line, weight_bits_text
from sqtune.search.wording import kib, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from sqtune.deploy.manifest import ActivationForm, Form

Number = TypeVar("Number", int, float)

SHOWN_ROWS, SHOWN_COLUMNS = 10, 12


class Study:
    """A study as it stood when it was searched or opened; `search` and `open_study` return it.

    Errors are shares (0..1) of the images.

    Attributes:
        name: Its name.
        ending: Why the search ended: "complete", "time limit", "stopped", ...; None for a study
            that was opened.
    """

    def __init__(
        self,
        space: SearchSpace,
        trials: Sequence[TrialRecord],
        places: Places,
        ending: Ending | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.ending = space.name, ending
        self._trials, self._places, self._attrs = trials, places, attrs or {}
        self._front = pareto.front(trials, pareto.compared(space.search.objectives))

    @property
    def trials(self) -> pd.DataFrame:
        """All trials, by number: results, sizes in bytes, and what was searched by dotted path.

        What is not known is missing (NaN or NA). `epochs` are those it has gone through,
        `epochs_trained` those that were trained for it and not taken from another trial;
        `duplicate_of` is the trial whose results a repetition has.
        """
        return trials_table(self._trials, [trial.number for trial in self._front])

    @property
    def front(self) -> pd.DataFrame:
        """The trials that no other one equals or beats, the smallest error first.

        In the study's objectives; where it has but one, in error and size.
        """
        return self.trials.loc[[trial.number for trial in self._front]]

    def best(
        self,
        max_size: int | str | None = None,
        max_error: float | str | None = None,
        *,
        knee: bool = False,
    ) -> Trial:
        """Return the best finished trial: of all, within limits, or at the knee.

        Where `sqtune confirm` tried new seeds, the lowest mean of what fits.

        Args:
            max_size: The most bytes it may take: 20480 or "20KiB".
            max_error: The largest validation error it may have: 0.02 or "2%". Then the smallest
                network within it is the best.
            knee: Whether to take the one where error against size bends.

        Raises:
            SqtuneError: None fits, or none has finished; the message says what would fit.
        """
        if knee and (max_size is not None or max_error is not None):
            raise ConfigError(
                "knee=True weighs error against size by itself: leave out the other limits."
            )
        size = parsed("max_size", parse_size, max_size)
        error = parsed("max_error", parse_share, max_error)
        choice = choose(self.name, self._attrs, self._trials, size, error, knee=knee)
        if choice is None:
            words = ("max_size", "max_error")
            raise nothing_fits(self.name, self._attrs, self._trials, size, error, words)
        return Trial(self, choice.trial)

    def trial(self, number: int) -> Trial:
        """Return a finished trial.

        Raises:
            SqtuneError: There is none of this number, or it has not finished.
        """
        return Trial(self, asked_for(self.name, self._trials, number))

    def plot_front(self) -> Figure:
        """Return a chart of error against size, the front's trials with their numbers.

        The line joins the front of error and size, whatever the study's objectives are.
        """
        from sqtune.search.front_chart import front_chart

        return front_chart(self.name, self._trials, [trial.number for trial in self._front])

    def __repr__(self) -> str:
        return f'<Study "{self.name}": {self._summary()}>'

    def _repr_html_(self) -> str:
        head = f"<p><b>{escape(self.name)}</b>: {escape(self._summary())}</p>"
        if not self._front:
            failed = [trial_line(trial) for trial in self._trials if trial.failure][:1]
            return head + "".join(f"<p>{escape(line)}</p>" for line in failed)
        rows = [
            {
                "trial": trial.number,
                "error %": percent(trial.val_error or 0.0, trial.facts.get("num_validation")),
                "bits": weight_bits_text(trial),
                "size": kib(trial.size_bytes),
                **{".".join(path.split(".")[-2:]): value for path, value in trial.values.items()},
            }
            for trial in self._front[:SHOWN_ROWS]
        ]
        more = len(self._front) - len(rows)
        tail = f"<p>{more} more of the front, all trials: .front, .trials</p>" if more > 0 else ""
        table = pd.DataFrame(rows).to_html(index=False, na_rep="", border=0, max_cols=SHOWN_COLUMNS)
        return f"<div>{head}<p>the front, best error first</p>{table}{tail}</div>"

    def _summary(self) -> str:
        choice = choose(self.name, self._attrs, self._trials)
        parts = [counts_text(self._trials)]
        parts += [] if choice is None else [f"best {trial_line(choice.trial)}"]
        parts += [] if choice is None or not choice.grounds else [choice.grounds]
        parts += [] if self.ending in (None, "complete") else [f"ended by: {self.ending}"]
        return "; ".join(parts)


class Trial:
    """A finished trial and its network. Errors are shares (0..1), sizes bytes.

    Attributes:
        number: Its number in the study.
        val_error: On the validation split, all weights quantized.
        val_error_standard_error: How far chance may move that.
        test_error: On the test split; None but for the network that a search chose.
        size_bytes: Predicted size of the exported file.
        bits: Average bits of the weights.
        config: What was trained, nested as under `trial:` in a space file.
    """

    def __init__(self, study: Study, record: TrialRecord) -> None:
        data = as_data(record)
        self.number = record.number
        self.val_error: float = data["val_error"]
        self.val_error_standard_error: float | None = data["val_error_standard_error"]
        self.test_error = record.test_error
        self.size_bytes, self.bits = record.size_bytes, record.weight_bits
        self.config: dict[str, Any] = data["config"]
        self._study, self._record = study, record

    @property
    def epochs(self) -> pd.DataFrame:
        """Its figures after each epoch: losses, errors, ratio, learning rate, ..."""
        rows = [{k: v for k, v in e.items() if k != "time"} for e in self._record.epochs]
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))

    @property
    def network(self) -> Path:
        """Folder of the trained network, which `sqtune.load` takes."""
        return self._chosen.folder

    def export(
        self,
        out: str | os.PathLike[str],
        form: Form = "onnx",
        *,
        activations: ActivationForm = "trained",
        force: bool = False,
        quiet: bool = False,
    ) -> Path:
        """Write the network as a file that runs elsewhere, proven equal; see `sqtune export`.

        Args:
            out: The folder to write; a new one.
            form: "onnx", "native", "torch" (for `sqtune.load`) or "c".
            activations: "trained", or "int8", "int4", "int2", calibrated on training images.
            force: Whether to replace an exported folder.
            quiet: Whether to print nothing.

        Returns:
            The folder.

        Raises:
            SqtuneError: It cannot be exported, or the file does not give the same predictions.
        """
        from sqtune.deploy.export import Request, export
        from sqtune.tracking.database import tracking_uri
        from sqtune.tracking.models import register

        places, chosen, folder = self._study._places, self._chosen, Path(out)
        request = Request(
            network=chosen.folder,
            data=places.store.data if places.store.root.is_dir() else None,
            out=folder,
            form=form,
            activations=activations,
            source=chosen.source,
            force=force,
        )
        shown = printer(quiet=quiet)
        manifest = export(
            request, say=lambda line: shown.print(line, highlight=False, soft_wrap=True)
        )
        try:
            uri = tracking_uri(places.store, places.tracking_uri)
            study = self._study
            best = is_best(chosen.source["trial"], study.name, study._attrs, study._trials)
            register(uri, study.name, chosen.source["run_id"], folder, manifest, best=best)
        except TrackingError as error:
            warnings.warn(str(error), stacklevel=2)
        return folder.absolute()

    @property
    def _chosen(self) -> Chosen:
        study = self._study
        return chosen_network(study._places.store, study.name, study._trials, self._record)

    def __repr__(self) -> str:
        return f"<{trial_line(self._record)}>"


def printer(*, quiet: bool) -> Console:
    """Return where to print: a terminal, or plain lines, which notebooks put one below another."""
    from rich.console import Console

    return Console(quiet=True, force_terminal=False) if quiet else console()


def parsed(name: str, parse: Callable[[Any], Number], given: Any) -> Number | None:
    """Return a number with its unit as the commands read it; None where it was not given.

    Raises:
        ConfigError: It is none.
    """
    try:
        return None if given is None else parse(given)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
