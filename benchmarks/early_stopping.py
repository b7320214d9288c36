r"""What early stopping and shared stages save, and what they cost.

    python benchmarks/early_stopping.py
    python benchmarks/early_stopping.py --space benchmarks/spaces/rungs_cifar10.yaml --data DIR \
        --train-images 6000 --validation-images 5000 --seeds 2

Every configuration of a space is trained to its end from several seeds, once (the trainings are
those of rung_metric.py). Then searches are replayed: --orders times some of the configurations are
drawn, in random order and from one of the seeds, and run in simulated slots. The real rungs decide
who goes on, and the real keys of stages say which epochs have been trained already.

`epochs`: trained, over those of the whole trainings. `regret`: confirmed error of the network that
is found less that of the one which the search without early stopping finds, in percentage points;
confirmed means by the seeds that the search did not see. Its standard error has two parts: the
searches are a sample, and so are the seeds that confirm. `fewer trials`: no early stopping, but a
search that ends after so many of the trials: what a rule has to beat.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from _replay import Candidate, Outcome, replay
from _results import Figure, Pedigree
from _trainings import Training, add_options, by_configuration, facts, trainings_of

from sqtune.config import TrialConfig
from sqtune.config.options import EarlyStopping
from sqtune.train.stages import epoch_keys

MOST_EPOCHS = 0.6  # of those of the whole trainings, stages shared
FEWER_TRIALS = (0.6, 0.4)
CHOICES: dict[str, tuple[Any, ...]] = {
    "rungs": ((0.5, 0.75), (0.25, 0.5, 0.75), (0.25, 0.5), (0.33, 0.67), (0.5,), (0.25,)),
    "keep": (0.5, 0.33, 0.25),
    "metric": ("train_loss", "val_error", "val_error_hybrid"),
    "compare": ("same_ratio", "centred", "all"),
    "min_trials": (4, 8),
}
Case = Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Row:
    """A rule and what came of it, over all replayed searches.

    Attributes:
        name: Of the rule.
        epochs: Share (0..1) of the whole trainings' epochs, mean.
        duration: Likewise, of the time until the last slot was done.
        regret: Mean, a share (0..1).
        error: Its standard error.
        spread: Standard deviation of one search's regret.
    """

    name: str
    epochs: float
    duration: float
    regret: float
    error: float
    spread: float

    @property
    def cells(self) -> str:
        return (
            f"{self.name} | {self.epochs:.0%} | {self.duration:.0%} | "
            f"{self.regret * 100:+.2f} ± {self.error * 100:.2f} | {self.spread * 100:.2f}"
        )


class Searches:
    """Searches to replay, and what each finds without early stopping.

    Args:
        trainings: Whole ones, of every configuration from the same seeds.
        num_trials: Of a search.
        num_slots: Trials at once.
        num_orders: Searches.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        trainings: Sequence[Training],
        *,
        num_trials: int,
        num_slots: int,
        num_orders: int,
        seed: int,
    ) -> None:
        groups = by_configuration(trainings)
        num_seeds = max(map(len, groups.values()))
        self.groups = {name: group for name, group in groups.items() if len(group) == num_seeds}
        self.num_trials = min(num_trials, len(self.groups))
        self.num_slots = num_slots
        seeds = sorted({training.config["seed"] for training in trainings})
        populations = [list(_candidates(self.groups, seed)) for seed in seeds]
        draws = random.Random(seed)
        self.cases: list[Case] = [
            draws.sample(populations[number % len(seeds)], self.num_trials)
            for number in range(num_orders)
        ]
        self.whole = [self._run(case, EarlyStopping(), share=False) for case in self.cases]
        self._seed_variance = statistics.fmean(
            statistics.variance([training.final for training in group])
            for group in self.groups.values()
        )

    def row(self, name: str, early: EarlyStopping, *, share: bool) -> Row:
        """Replay all searches by a rule."""
        return self._row(name, [self._run(case, early, share=share) for case in self.cases])

    def fewer_trials(self, part: float) -> Row:
        """Replay searches that end after a part (0..1) of the trials."""
        num = max(1, round(part * self.num_trials))
        outcomes = [self._run(case[:num], EarlyStopping(), share=False) for case in self.cases]
        return self._row(f"fewer trials: {part:.0%}", outcomes)

    def confirmed(self) -> float:
        """Return the mean confirmed error of what is found without early stopping."""
        pairs = zip(self.cases, self.whole, strict=True)
        return statistics.fmean(case[outcome.best].confirmed for case, outcome in pairs)

    def _run(self, case: Case, early: EarlyStopping, *, share: bool) -> Outcome:
        if not share:
            apart = [
                tuple(f"{number} {key}" for key in one.keys) for number, one in enumerate(case)
            ]
            case = [replace(one, keys=keys) for one, keys in zip(case, apart, strict=True)]
        return replay(case, early, self.num_slots)

    def _row(self, name: str, outcomes: Sequence[Outcome]) -> Row:
        regrets, weights = [], Counter[float]()
        share = 1 / len(self.cases)
        for case, outcome, whole in zip(self.cases, outcomes, self.whole, strict=True):
            found, wanted = case[outcome.best], case[whole.best]
            regrets.append(found.confirmed - wanted.confirmed)
            for one, sign in ((found, 1), (wanted, -1)):
                for training in one.others:
                    weights[one.name, training] += sign * share / len(one.others)
        confirming = self._seed_variance * sum(weight**2 for weight in weights.values())
        spread = statistics.stdev(regrets)
        pairs = list(zip(outcomes, self.whole, strict=True))
        return Row(
            name=name,
            epochs=statistics.fmean(one.epochs / whole.epochs for one, whole in pairs),
            duration=statistics.fmean(one.duration / whole.duration for one, whole in pairs),
            regret=statistics.fmean(regrets),
            error=math.sqrt(confirming + spread**2 * share),
            spread=spread,
        )


def _candidates(groups: dict[str, list[Training]], seed: int) -> Iterator[Candidate]:
    for name, group in groups.items():
        for own in group:
            if own.config["seed"] == seed:
                others = tuple(one.final for one in group if one is not own)
                config = TrialConfig.model_validate_json(json.dumps(own.config))
                keys = epoch_keys(config, "the benchmark's", num_threads=1)
                yield Candidate(name, own.epochs, others, keys)


def kinds(searches: Searches) -> Iterator[Row]:
    """Yield the defaults of every kind, with stages shared and not."""
    for name, share in itertools.product(("none", "stop", "pause"), (False, True)):
        early = EarlyStopping(name=name)
        yield searches.row(f"{name}, {'shared' if share else 'not shared'}", early, share=share)
    for part in FEWER_TRIALS:
        yield searches.fewer_trials(part)


def variations(searches: Searches) -> Iterator[Row]:
    """Yield what becomes of each kind, stages shared, if one of the defaults is another."""
    for name in ("stop", "pause"):
        default = EarlyStopping(name=name)
        for field, values in CHOICES.items():
            for value in values:
                early = default.model_copy(update={field: value})
                if early != default:
                    shown = list(value) if isinstance(value, tuple) else value
                    yield searches.row(f"{name}, {field}: {shown}", early, share=True)


def combinations(searches: Searches) -> Iterator[Row]:
    """Yield every combination of all choices, stages shared."""
    for name, *choice in itertools.product(("stop", "pause"), *CHOICES.values()):
        early = EarlyStopping(name=name, **dict(zip(CHOICES, choice, strict=True)))
        yield searches.row(f"{name} {' '.join(map(str, choice))}", early, share=True)


def table(rows: Sequence[Row]) -> list[str]:
    head = "| rule | epochs | time | regret, points | of one search |"
    return [head, "|---|---|---|---|---|", *(f"| {row.cells} |" for row in rows)]


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """Return what is claimed of the defaults, and what else was found."""
    figures = []
    for row in rows:
        is_default = row.name in ("stop, shared", "pause, shared")
        most_regret = round(row.error, 6) if is_default else None
        most_epochs = MOST_EPOCHS if is_default else None
        figures.append(Figure(f"{row.name}: epochs", "", [round(row.epochs, 6)], most_epochs))
        figures.append(Figure(f"{row.name}: regret", "", [round(row.regret, 6)], most_regret))
    return figures


def main() -> None:
    options = _options()
    pedigree = Pedigree()
    space, trainings = trainings_of(options)
    searches = Searches(
        trainings,
        num_trials=options.trials,
        num_slots=options.slots,
        num_orders=options.orders,
        seed=options.seed,
    )
    rows = list(kinds(searches))
    text = table(rows)
    if options.combinations:
        text += ["", *table(sorted(combinations(searches), key=lambda row: row.epochs))]
    else:
        varied = list(variations(searches))
        rows += varied
        text += ["", *table(varied)]
    default = EarlyStopping().model_dump(mode="json", exclude={"name"})
    pedigree.report(
        f"early_stopping_{space.name}",
        figures_of(rows),
        settings=facts(space, trainings)
        | {
            "default": default,
            "orders": options.orders,
            "trials": searches.num_trials,
            "slots": options.slots,
        },
        seeds={"replays": options.seed},
        notes=[
            f"{options.orders} searches of {searches.num_trials} of {len(searches.groups)} "
            f"configurations, {options.slots} slots",
            f"confirmed error of what is found without early stopping: "
            f"{searches.confirmed() * 100:.2f} %",
            f"defaults: {default}",
        ],
        table="\n".join(text),
        save=not options.no_save and not options.combinations,
        folder=options.results,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--trials", type=int, default=40, help="of a search")
    parser.add_argument("--slots", type=int, default=4, help="trials at once")
    parser.add_argument("--orders", type=int, default=200, help="searches that are replayed")
    parser.add_argument(
        "--combinations", action="store_true", help="try every combination of choices; no JSON"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
