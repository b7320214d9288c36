r"""Which metric, early in a training, foretells how the training will end?

    python benchmarks/rung_metric.py
    python benchmarks/rung_metric.py --space benchmarks/spaces/rungs_cifar10.yaml --data DIR \
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

import numpy as np
from _rank_correlation import COMPARES, Foretold, between_seeds, correlation, resampled
from _results import Figure, Pedigree
from _trainings import Training, add_options, by_configuration, facts, trainings_of

from sqtune.config import SearchSpace

METRICS = ("val_error", "val_error_hybrid", "train_loss")
LOOKS = (0.25, 0.5, 0.75)  # progress
NUM_RESAMPLED = 200
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


def report(
    pedigree: Pedigree,
    trainings: Sequence[Training],
    space: SearchSpace,
    options: argparse.Namespace,
) -> None:
    """Print both tables, and write them with the figures."""
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
    pedigree.report(
        f"rung_metric_{space.name}",
        figures,
        settings=facts(space, trainings),
        seeds={"bootstrap": options.seed},
        notes=[
            f"{len(trainings)} trainings of {len(groups)} configurations",
            f"final errors {finals[0]:.3f} to {finals[-1]:.3f}, median "
            f"{statistics.median(finals):.3f}",
            "correlation of the final errors between seeds: "
            + ("one seed only" if between is None else f"{between:.2f}"),
        ],
        table="\n".join(text),
        save=not options.no_save,
        folder=options.results,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    pedigree = Pedigree()
    space, trainings = trainings_of(options)
    report(pedigree, trainings, space, options)


if __name__ == "__main__":
    main()
