"""Is Stochastic Quantization worth its search? The same search with schedules and without.

    python benchmarks/schedule_control.py --data CIFAR10 --store DIR
    python benchmarks/schedule_control.py --epochs 4 --trials 8 --no-save          # on digits

Two searches with the same sampler, trials and epochs: one over ratio schedules and selections, one
with the ratio fixed at 1 (BWN, TWN, learned steps); quantizer, learning rate and distillation from
a float network are free in both. The winners are trained again with new seeds, which alone decide.
Then every combination of schedule, learning rate and seed for one ternary network says whose the
variance is.

Everything is run by sqtune's own commands in one store, so the same command again goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _results import RESULTS, Pedigree

SEARCHED = {
    "quantizer.name": {"choice": ["binary", "ternary", "lsq_ternary"]},
    "optimizer.lr": {"float": [0.02, 0.4], "log": True},
    "distillation.weight": {"choice": [0.0, 0.5]},
}
SCHEDULES: list[dict[str, Any]] = [
    {"name": "exponential"},
    {"name": "exponential", "warmup": 0.25},
    {"name": "average"},
    {"name": "linear", "reach": 0.7},
    {"name": "stages", "ratios": [0, 1], "starts": [0, 0.5]},
    {"name": "stages", "ratios": [1]},
]
OVER_SCHEDULES = {
    "schedule": {"choice": SCHEDULES},
    "optimizer.restarts": {"choice": ["never", "stage"]},
    "selection.function": {"choice": ["linear", "constant", "error"]},
}
FACTORIAL = ({"name": "stages", "ratios": [1]}, *SCHEDULES[:4])
RATES = (0.03, 0.1, 0.3)


class Control:
    """The searches, in one store."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.store = options.store or folder / "store"
        self.store.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = {"name": "digits"}
        if options.data is not None:
            data = {"name": "image_folder", "root": str(options.data.absolute())}
            data |= {"image_size": options.image_size, "crop_padding": options.image_size // 8}
        self.trial = {
            "data": data,
            "network": {"name": options.network, "width": options.width},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            "compute": {
                "compile": options.compile,
                "precision": options.precision,
                "channels_last": options.channels_last,
            },
            "num_epochs": options.epochs,
        }

    def run(self, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "sqtune", *arguments, "--store", str(self.store), "--json"]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        content: dict[str, Any] = json.loads(answer.stdout)
        return content

    def space(self, name: str, **sections: Any) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, **sections}))
        return path

    def teacher(self) -> Path:
        """Train the float network that distillation takes; once."""
        folder = self.store / "teacher"
        if not folder.exists():
            path = self.space("teacher", trial={**self.trial, "quantizer": {"name": "float"}})
            self.run("train", "--space", str(path), "--out", str(folder))
        return folder

    def search(self, name: str, teacher: Path, schedules: bool) -> dict[str, Any]:
        """Search, and train the winner again with new seeds."""
        trial = {**self.trial, "distillation": {"teacher": str(teacher)}}
        if not schedules:
            trial["schedule"] = {"name": "stages", "ratios": [1]}
        path = self.space(
            name,
            trial=trial,
            space=SEARCHED | (OVER_SCHEDULES if schedules else {}),
            search={"num_trials": self.options.trials, "sampler": "tpe", "seed": self.options.seed},
        )
        found = self.run("search", "--space", str(path))
        seeds = str(self.options.seeds)
        confirmed = self.run("confirm", name, "--top", "1", "--seeds", seeds)["confirmed"][0]
        best = next(each for each in found["trials"] if each["number"] == confirmed["trial"])
        return {
            "trials": self.options.trials,
            "best_once": confirmed["first_error"],
            "confirmed": confirmed["errors"],
            "mean": confirmed["mean"],
            "deviation": confirmed["deviation"],
            "config": best["config"],
        }

    def factorial(self) -> dict[str, Any]:
        """Train every combination of schedule, learning rate and seed; share out the variance."""
        methods = [
            {"name": f"{number}-{rate}", "values": {"schedule": schedule, "optimizer.lr": rate}}
            for number, schedule in enumerate(FACTORIAL)
            for rate in RATES
        ]
        trial = {**self.trial, "quantizer": {"name": "ternary"}}
        compare = {"budgets": [1], "methods": methods}
        path = self.space("factorial", trial=trial, compare=compare)
        num_seeds = self.options.factorial_seeds
        content = self.run("compare", "--space", str(path), "--seeds", str(num_seeds))
        errors = [list(m["budgets"]["1"]["val_errors"].values()) for m in content["methods"]]
        cube = np.array(errors).reshape(len(FACTORIAL), len(RATES), num_seeds)
        return {
            "schedules": list(FACTORIAL),
            "rates": list(RATES),
            "val_errors": cube.tolist(),
            "share_of_variance": shares(cube),
        }


def shares(errors_SRN: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return whose the variance is: two-way analysis of variance, sums of squares over their total.

    Args:
        errors_SRN: By schedule, learning rate and seed.
    """
    grand = errors_SRN.mean()
    total = ((errors_SRN - grand) ** 2).sum()
    num_schedules, num_rates, num_seeds = errors_SRN.shape
    by_schedule = ((errors_SRN.mean((1, 2)) - grand) ** 2).sum() * num_rates * num_seeds
    by_rate = ((errors_SRN.mean((0, 2)) - grand) ** 2).sum() * num_schedules * num_seeds
    between = ((errors_SRN.mean(2) - grand) ** 2).sum() * num_seeds
    parts = {
        "schedule": by_schedule,
        "learning rate": by_rate,
        "both together": between - by_schedule - by_rate,
        "seed": total - between,
    }
    return {name: float(part / total) for name, part in parts.items()}


def save(options: argparse.Namespace, pedigree: Pedigree, results: dict[str, Any]) -> None:
    """Write down what is known so far."""
    if not options.no_save:
        tag = f"_{options.tag}" if options.tag else ""
        path = RESULTS / f"schedule_control{tag}.json"
        path.write_text(json.dumps({**pedigree._facts, **results}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of images with train/ and test/")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5, help="of each winner")
    parser.add_argument("--factorial-seeds", type=int, default=3, help="0 leaves it out")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--compile", default="off", help="compute.compile")
    parser.add_argument("--precision", default="auto", help="compute.precision")
    parser.add_argument("--channels-last", default="auto", help="compute.channels_last")
    parser.add_argument("--store", type=Path, help="where to go on; by default a temporary folder")
    parser.add_argument("--tag", default="", help="part of the result file's name")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    pedigree = Pedigree()
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as folder:
        control = Control(options, Path(folder))
        teacher = control.teacher()
        results: dict[str, Any] = {
            "over schedules": control.search("schedules", teacher, schedules=True),
            "ratio 1": control.search("ratio1", teacher, schedules=False),
        }
        for name, found in results.items():
            print(f"{name}: {found['mean']:.4f} ± {found['deviation']:.4f}")
        gain = results["ratio 1"]["mean"] - results["over schedules"]["mean"]
        spread = math.sqrt(
            sum(statistics.variance(each["confirmed"]) / options.seeds for each in results.values())
        )
        print(f"schedules gain {100 * gain:+.2f} points, standard error {100 * spread:.2f}")
        results["gain"], results["gain_standard_error"] = gain, spread
        save(options, pedigree, results)
        if options.factorial_seeds:
            results["factorial"] = control.factorial()
            for name, share in results["factorial"]["share_of_variance"].items():
                print(f"{name}: {100 * share:.0f} % of the variance")
            save(options, pedigree, results)
    print(pedigree.line())


if __name__ == "__main__":
    main()
