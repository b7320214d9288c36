"""Which metric, early in a training, foretells how the training will end?

    python benchmarks/rung_metric.py
    python benchmarks/rung_metric.py --space benchmarks/spaces/rungs_cifar10.yaml --data DIR \\
        --train-images 6000 --validation-images 5000 --seeds 2

Every configuration of a space (or --configurations drawn from it) is trained to its end from
several seeds. At 25, 50 and 75 % of the training each metric's order of the trainings is compared
with the order of their final validation errors, all weights quantized: Spearman's rank correlation,
in the three ways in which `search.early_stopping.compare` compares. The spread comes from drawing
the configurations anew (bootstrap).

Each training is a line of rungs/SPACE.jsonl beside the results; the same command goes on after the
last one, and --no-train makes the table of what there is.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _rank_correlation import COMPARES, Foretold, between_seeds, correlation, resampled
from _results import RESULTS, Figure, Pedigree
from _trainings import Training, by_configuration, configurations, finished, run_all, subset

from sqtune.config import SearchSpace, load_space
from sqtune.data.split import prepare

SPACES = Path(__file__).resolve().parent / "spaces"
METRICS = ("val_error", "val_error_hybrid", "train_loss")
LOOKS = (0.25, 0.5, 0.75)  # progress
NUM_RESAMPLED = 300
MIDDLE = (5, 95)  # per cent of the bootstrap's values


def table(
    trainings: Sequence[Training], foretold: Foretold, seed: int
) -> tuple[list[str], list[Figure]]:
    """Return the correlations of every metric, look and comparison, as markdown and as figures."""
    samples = resampled(by_configuration(trainings), NUM_RESAMPLED, seed)
    lines = [f"| at | metric | measured | {' | '.join(COMPARES)} |", "|---|---|---|---|---|---|"]
    figures = []
    for look in LOOKS:
        for metric in METRICS:
            cells = []
            for name, compare in COMPARES.items():
                value = correlation(trainings, metric, look, compare, foretold)
                if value is None:
                    cells.append("")
                    continue
                spread = [
                    one
                    for sample in samples
                    if (one := correlation(sample, metric, look, compare, foretold)) is not None
                ]
                low, high = np.percentile(spread, MIDDLE)
                cells.append(f"{value:.2f} ({low:.2f} to {high:.2f})")
                label = f"at {look:.0%}, {metric}, {name}"
                figures.append(Figure(label, "", [round(value, 4)]))
            share = statistics.fmean(metric in training.at(look) for training in trainings)
            lines.append(f"| {look:.0%} | `{metric}` | {share:.0%} | {' | '.join(cells)} |")
    return lines, figures


def report(trainings: Sequence[Training], space: SearchSpace, options: argparse.Namespace) -> None:
    """Print both tables, and write them with the figures."""
    pedigree = Pedigree()
    groups = by_configuration(trainings)
    means = {name: statistics.fmean(one.final for one in group) for name, group in groups.items()}
    own, figures = table(trainings, lambda training: training.final, options.seed)
    others, _ = table(trainings, lambda training: means[training.without_seed], options.seed)
    finals = sorted(training.final for training in trainings)
    between = between_seeds(trainings)
    text = [
        f"Spearman's correlation with the training's final error ({MIDDLE[0]} to {MIDDLE[1]} % of "
        f"{NUM_RESAMPLED} bootstrap samples); `measured`: trainings that have the metric there",
        "",
        *own,
        "",
        "With the mean final error of the configuration's seeds:",
        "",
        *others,
    ]
    seeds = sorted({training.config["seed"] for training in trainings})
    pedigree.report(
        f"rung_metric_{space.name}",
        figures,
        settings={
            "space": space.model_dump(mode="json", by_alias=True, include={"trial", "space"}),
            "train_images": options.train_images or "all",
            "validation_images": options.validation_images or "all",
            "trainings": len(trainings),
            "configurations": len(groups),
        },
        seeds={"bootstrap": options.seed, "trainings from": seeds[0], "to": seeds[-1]},
        notes=[
            f"{len(trainings)} trainings of {len(groups)} configurations, {len(seeds)} seeds",
            f"final errors {finals[0]:.3f} to {finals[-1]:.3f}, median "
            f"{statistics.median(finals):.3f}",
            "correlation of the final errors between seeds: "
            + ("one seed only" if between is None else f"{between:.2f}"),
        ],
        table="\n".join(text),
        save=not options.no_save,
        folder=options.results,
    )


def train_all(space: SearchSpace, log: Path, options: argparse.Namespace) -> None:
    """Train what the log does not have yet: all configurations of a seed, then of the next."""
    base = configurations(space, options.configurations, options.seed)
    splits = prepare(base[0].data, log.parent / "data" if options.data else None)
    splits = subset(splits, options.train_images, options.validation_images)
    settings = {
        "space": space.name,
        "images": [len(splits.train), len(splits.validation)],
        "threads": 1,
    }
    configs = [
        config.model_copy(update={"seed": seed}) for seed in range(options.seeds) for config in base
    ]
    run_all(configs, splits, settings, log)


def main() -> None:
    options = _options()
    data = [] if options.data is None else [f"trial.data.root={options.data}"]
    space = load_space(options.space, [*options.set, *data])
    log = options.results / "rungs" / f"{space.name}.jsonl"
    if not options.no_train:
        train_all(space, log, options)
    report(finished(log), space, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", type=Path, default=SPACES / "rungs_digits.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="as of sqtune search"
    )
    parser.add_argument("--data", type=Path, help="folder of images: trial.data.root")
    parser.add_argument("--train-images", type=int, help="by default all")
    parser.add_argument("--validation-images", type=int, help="by default all")
    parser.add_argument("--configurations", type=int, help="of the space; by default all")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each configuration")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--no-train", action="store_true", help="take what there is")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
