"""What tells early how a training will end?"""

from __future__ import annotations

import argparse
from pathlib import Path

from _results import RESULTS
from _trainings import configurations, run_all, subset

from sqtune.config import SearchSpace, load_space
from sqtune.data.split import prepare

SPACES = Path(__file__).resolve().parent / "spaces"


def space_of(options: argparse.Namespace) -> SearchSpace:
    changes = list(options.set)
    if options.data is not None:
        changes.append(f"trial.data.root={options.data}")
    return load_space(options.space, changes)


def main() -> None:
    options = _options()
    space = space_of(options)
    folder = options.results / "rungs"
    base = configurations(space, options.configurations, options.seed)
    splits = prepare(base[0].data, folder / "data" if options.data else None)
    splits = subset(splits, options.train_images, options.validation_images)
    settings = {
        "space": space.name,
        "images": [len(splits.train), len(splits.validation)],
        "threads": 1,
    }
    configs = [
        config.model_copy(update={"seed": seed}) for seed in range(options.seeds) for config in base
    ]
    run_all(configs, splits, settings, folder / f"{space.name}.jsonl")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", type=Path, default=SPACES / "rungs_digits.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--data", type=Path, help="folder of images: trial.data.root")
    parser.add_argument("--train-images", type=int, help="by default all")
    parser.add_argument("--validation-images", type=int, help="by default all")
    parser.add_argument("--configurations", type=int, help="of the space; by default all")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each configuration")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
