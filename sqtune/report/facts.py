"""What the page shows of a study, as frozen data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqtune.config.compared import NUMBERS
from sqtune.config.space import SearchSpace
from sqtune.errors import StoreError
from sqtune.quant import Float
from sqtune.search.choice import choose, told
from sqtune.search.compare import Row
from sqtune.search.confirmed import Confirmed
from sqtune.search.pareto import compared, front, ranking
from sqtune.search.records import TrialRecord
from sqtune.search.view import StudyView
from sqtune.store import Store

# of a trained network, as sqtune.train writes them; to import that takes torch
WEIGHTS, CODES, ABOUT = "weights.safetensors", "codes.safetensors", "network.json"
LAYERS = "layers.safetensors"
MOST_SHOWN = 2_000  # trials with a mark and a row of their own: more make a page slow and large


@dataclass(frozen=True, slots=True)
class LayerErrors:
    """What happened to the winner's layers.

    Attributes:
        names: Of the quantized layers, from the first to the last.
        errors: Mean relative quantization error of a layer's filters, by layer and epoch; None in
            a float warm-up.
    """

    names: tuple[str, ...]
    errors: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `sqtune compare` came to.

    Attributes:
        rows: One a method.
        num_epochs: Of one stage.
        num_seeds: Trainings of each method at each budget.
    """

    rows: tuple[Row, ...]
    num_epochs: int
    num_seeds: int


@dataclass(frozen=True, slots=True)
class Stop:
    """A rung at which trials were stopped.

    Attributes:
        epoch: After which it is.
        num_epochs: Of the whole training.
        stopped: Trials that were stopped there.
        held: Trials that are paused there.
        went_on: Trials that were trained further.
    """

    epoch: int
    num_epochs: int
    stopped: int
    held: int
    went_on: int


@dataclass(frozen=True, slots=True)
class Report:
    """A study as the page shows it. Errors are shares (0..1).

    Attributes:
        name: The study's.
        uuid: The study's, by which its page is known.
        space: What is searched.
        trials: All, by number.
        ranked: The finished ones that repeat no other, best first.
        front: Of error against size, best error first.
        on_front: Numbers of the trials on the front of the study's own objectives.
        winner: The network that the study hands over, as `search.choice` has it.
        baseline: The best network of the study that stayed float.
        start_error: Validation error of the float network that the winner started from, where that
            is a folder of sqtune's.
        confirmed: What new seeds gave, lowest mean first.
        confirmed_epochs: What those were trained for instead; None where as the search had done.
        confirms: The study that this one confirms.
        compares: Whether `sqtune compare` made it.
        importance: Share (0..1) of each searched value, most important first.
        layers: The winner's; None where its network is not here.
        weights_bytes: Of the winner's float weights, where its network is here.
        comparison: What that came to; None before its end.
        provenance: Versions, commit and machine of the study's beginning.
        options: What a command on this study needs beside its name, quoted for a shell.
        written_at: When this was gathered, seconds since 1970.
    """

    name: str
    uuid: str
    space: SearchSpace
    trials: tuple[TrialRecord, ...]
    ranked: tuple[TrialRecord, ...]
    front: tuple[TrialRecord, ...]
    on_front: frozenset[int]
    winner: TrialRecord | None
    baseline: TrialRecord | None
    start_error: float | None
    confirmed: tuple[Confirmed, ...]
    confirmed_epochs: int | None
    confirms: str | None
    compares: bool
    importance: Mapping[str, float]
    layers: LayerErrors | None
    weights_bytes: int | None
    comparison: Comparison | None
    provenance: Mapping[str, str]
    options: str
    written_at: float

    @property
    def mean(self) -> Confirmed | None:
        """What new seeds gave of the winner, trained as it was; None where none did."""
        return self.confirmed[0] if self.confirmed and self.confirmed_epochs is None else None

    @property
    def shown(self) -> tuple[TrialRecord, ...]:
        """The trials that get a mark and a row: the best, and then the others by number."""
        first = {trial.number for trial in self.ranked}
        others = (trial for trial in self.trials if trial.number not in first)
        return (*self.ranked, *others)[:MOST_SHOWN]

    @property
    def networks(self) -> tuple[TrialRecord, ...]:
        """The finished ones among them, best first."""
        return self.ranked[:MOST_SHOWN]

    @property
    def is_search(self) -> bool:
        """Whether its values were searched: a comparison and a confirmation go through seeds."""
        return self.confirms is None and not self.compares


def gather(
    study: StudyView, trials: Sequence[TrialRecord], store: Store, options: str = ""
) -> Report:
    """Return what the page shows of a study.

    Args:
        study: In its storage.
        trials: All of them.
        store: Where networks and comparisons lie.
        options: What a command on the study needs beside its name, quoted for a shell.
    """
    attrs, objectives = study.attrs, study.space.search.objectives
    ranked = [trial for trial in ranking(trials) if trial.duplicate_of is None]
    confirmed, confirmed_epochs = told(study.name, attrs, trials)
    choice = choose(study.name, attrs, trials)
    winner = None if choice is None else choice.trial
    compares = attrs.get("compares", False) or _once_compared(study.space)
    folder = None if winner is None else store.network(study.name, winner.number)
    if folder is not None:
        try:
            store.fetch(folder)
        except StoreError:  # a store that is away: the page goes without
            folder = None
    return Report(
        name=study.name,
        uuid=attrs["uuid"],
        space=study.space,
        trials=tuple(trials),
        ranked=tuple(ranked),
        front=tuple(front(trials)),
        on_front=frozenset(trial.number for trial in front(trials, compared(objectives))),
        winner=winner,
        baseline=next((trial for trial in ranked if trial.weight_bits == Float.bits), None),
        start_error=None if winner is None else _start_error(winner),
        confirmed=confirmed,
        confirmed_epochs=confirmed_epochs,
        confirms=attrs.get("confirms"),
        compares=compares,
        importance=study.importance(),
        layers=None if folder is None else read_layers(folder),
        weights_bytes=None if folder is None else _weights_bytes(folder),
        comparison=_comparison(store, study.name) if compares else None,
        provenance=attrs.get("provenance", {}),
        options=options,
        written_at=time.time(),
    )


def _start_error(winner: TrialRecord) -> float | None:
    start = winner.config.start
    if start is None:
        return None
    try:
        about = Path(start.weights).expanduser() / ABOUT
        result = json.loads(about.read_text(encoding="utf-8"))["about"]["result"]
        return float(result["val_error"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # another kind of weights
        return None


def stops(trials: Sequence[TrialRecord]) -> list[Stop]:
    """Return where trials were stopped, by the length of the training and the epoch.

    Compared are trainings of equal length. One that failed or still runs has not yet been judged
    at the rung that it reached last.
    """
    own = [trial for trial in trials if trial.duplicate_of is None]
    places = {(t.config.num_epochs, len(t.epochs)) for t in own if t.state == "stopped"}
    found = []
    for num_epochs, epoch in sorted(places):
        alike = [trial for trial in own if trial.config.num_epochs == num_epochs]
        here = [trial.state for trial in alike if len(trial.epochs) == epoch]
        went_on = sum(len(trial.epochs) > epoch for trial in alike)
        found.append(Stop(epoch, num_epochs, here.count("stopped"), here.count("paused"), went_on))
    return found


def read_layers(folder: Path) -> LayerErrors | None:
    """Return the layers' errors of a trained network; None where they are not known."""
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    try:
        tensors = load_file(folder / LAYERS)
        with safe_open(folder / CODES, framework="numpy") as file:
            order = list(json.loads(file.metadata()["shapes"]))
    except (OSError, SafetensorError):
        return None
    names = [name for name in order if f"{name}.error" in tensors]
    errors = tuple(
        tuple(None if math.isnan(error) else error for error in layer)
        for layer in (tensors[f"{name}.error"].mean(axis=1).tolist() for name in names)
    )
    return LayerErrors(tuple(names), errors) if names else None


def _weights_bytes(folder: Path) -> int | None:
    weights = folder / WEIGHTS
    return weights.stat().st_size if weights.is_file() else None


def _once_compared(space: SearchSpace) -> bool:
    """Tell whether `sqtune compare` made a study of before it left a mark there."""
    own = all(space.space.get(path) == numbers for path, numbers in NUMBERS.items())
    return own and space.search.sampler == "points"


def _comparison(store: Store, name: str) -> Comparison | None:
    """Return what a comparison wrote down at its end; None where that is not here, or not whole."""
    folder = store.comparison(name)
    with suppress(StoreError):  # what is here has to do
        store.fetch(folder)
    try:
        data = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        rows = tuple(Row.from_data(method) for method in data["methods"])
        return Comparison(rows, data["num_epochs"], data["num_seeds"])
    except (OSError, ValueError, KeyError, TypeError):  # also one that an older version wrote
        return None
