"""Studies whose trials are made up and stand in a real storage: hundreds within a second."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from safetensors.numpy import save_file

from sqtune.config.grid import draw
from sqtune.config.space import SearchSpace
from sqtune.quant import epoch_ratio
from sqtune.report.facts import Report, gather
from sqtune.search.samplers import distribution, stored_value
from sqtune.search.storage import in_memory
from sqtune.search.stored import (
    CONFIG,
    DUPLICATE_OF,
    FACTS,
    FAILURE,
    PAUSED,
    REFUSED,
    STOPPED,
    epoch_key,
)
from sqtune.search.view import StudyView
from sqtune.store import Store
from sqtune.train import checkpoint, history

NAME = "made up"
CONTENT: dict[str, Any] = {
    "name": NAME,
    "trial": {"network": {"name": "resnet8", "width": 4}, "num_epochs": 8},
    "space": {
        "quantizer.name": {"choice": ["binary", "ternary", "uniform"]},
        "quantizer.bits": {"int": [2, 4], "when": {"quantizer.name": "uniform"}},
        "schedule": {
            "choice": [
                {"name": "linear"},
                {"name": "exponential", "warmup": 0.25},
                {"name": "stages", "ratios": [0, 0.5, 0.75, 1], "starts": [0, 0.5, 0.625, 0.75]},
            ]
        },
        "optimizer.lr": {"float": [0.02, 0.3], "log": True},
    },
    "search": {"num_trials": 12, "sampler": "random"},
}
LAYERS = ("stem.weight", "group1.0.conv1.weight", "group3.0.conv2.weight", "head.weight")
IMAGES = 449
State = str  # of a trial, in our words


def space(**changes: Any) -> SearchSpace:
    """Return the space with sections replaced."""
    content = {**CONTENT, **changes}
    return SearchSpace.model_validate_json(json.dumps(content))


def study(
    states: Sequence[State],
    *,
    of: SearchSpace | None = None,
    edit: Callable[[dict[str, Any]], object] = lambda parts: None,
    attrs: dict[str, Any] | None = None,
) -> StudyView:
    """Return a study with a trial for each state.

    Args:
        states: In our words: finished, stopped, refused, failed, running, paused, interrupted;
            repeated, of trial 0, which has to be finished.
        of: The space.
        edit: Changes what a trial is made of (`create_trial`'s arguments, and `number`).
        attrs: Of the study, beside its own.
    """
    of = of or space()
    storage = in_memory()
    made = optuna.create_study(
        storage=storage,
        study_name=of.name,
        directions=["minimize"] * len(of.search.objectives),
    )
    own = {
        "uuid": "abc",
        "space": of.model_dump_json(by_alias=True),
        "driven_at": time.time(),
        "provenance": {"python": "3.11", "version.torch": "2.15.0", "commit": "abc", "cpu": "one"},
    }
    for key, value in (own | (attrs or {})).items():
        made.set_user_attr(key, value)
    made.add_trials([_trial(of, number, state, edit) for number, state in enumerate(states)])
    return StudyView.load(storage, of.name)


def _trial(
    of: SearchSpace, number: int, state: State, edit: Callable[[dict[str, Any]], object]
) -> FrozenTrial:
    generator = random.Random(number)
    values = draw(of, generator)
    config = of.config(values)
    whole = state in ("finished", "repeated")
    num_epochs = config.num_epochs if whole else config.num_epochs // 2
    size = {"binary": 8_000, "ternary": 12_000}.get(config.quantizer.name, 18_000) + number
    last = 0.05 + 0.25 * generator.random() * 10_000 / size
    attrs: dict[str, Any] = {CONFIG: config.model_dump_json()}
    attrs[FACTS] = {
        "size_bytes": size, "num_validation": IMAGES, "node": "one", "macs": 1e6,
        "ram_bytes": 4096, "bit_operations": size * 1e3, "weight_bits": config.quantizer.bits,
    }  # fmt: skip
    match state:
        case "stopped":
            attrs[STOPPED] = {"epoch": num_epochs, "why": "it is not among the better half"}
        case "refused":
            attrs[REFUSED], num_epochs = "it takes 9 KiB, more than 8 KiB.", 0
        case "failed":
            attrs[FAILURE] = f"Traceback\n  <b>here</b>\nthe loss is not finite, trial {number % 2}"
        case "paused":
            attrs[PAUSED] = num_epochs
        case "repeated":
            values = draw(of, random.Random(0))
            attrs |= {CONFIG: of.config(values).model_dump_json(), DUPLICATE_OF: 0}
    for epoch in range(1, num_epochs + 1):
        ratio = epoch_ratio(config.schedule, epoch, config.num_epochs)
        error = last + 0.4 * math.exp(-4 * epoch / config.num_epochs)
        attrs[epoch_key(epoch)] = {
            "train_loss": 2 * error, "val_error_hybrid": 0.9 * error, "ratio": ratio,
            **({"val_error": error} if ratio > 0 else {}), "seconds": 1.5,
            "time": 1_764_000_000_000 + 60_000 * number + 1_500 * epoch,
            **({"restored": 1.0} if number % 3 == 2 and ratio == 0 else {}),
        }  # fmt: skip
    parts: dict[str, Any] = {"number": number, "state": state, "user_attrs": attrs}
    edit(parts)
    attrs, state = parts["user_attrs"], parts["state"]
    finished = state in ("finished", "repeated")
    objectives = {
        **attrs[FACTS],
        "val_error": attrs.get(epoch_key(num_epochs), {}).get("val_error"),
    }
    return create_trial(
        state=_STATES[state],
        params={path: stored_value(value) for path, value in values.items()},
        distributions={path: distribution(of.space[path]) for path in values},
        values=[float(objectives[name]) for name in of.search.objectives] if finished else None,
        user_attrs=attrs,
    )


_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "refused": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
    "interrupted": TrialState.WAITING,
    "repeated": TrialState.COMPLETE,
}


def report(folder: Path, states: Sequence[State], **how: Any) -> Report:
    """Return what the page shows of such a study, whose store is an empty folder."""
    made = study(states, **how)
    return gather(made, made.trials(), Store.at(folder / "store"))


def write_network(folder: Path, num_epochs: int = 8, num_float: int = 2) -> None:
    """Write what the page reads of a trained network."""
    folder.mkdir(parents=True)
    tensors = {}
    for place, name in enumerate(LAYERS):
        error = np.linspace(0.9, 0.2 + 0.1 * place, num_epochs, dtype=np.float32)
        error[:num_float] = math.nan
        tensors[f"{name}.error"] = np.repeat(error[:, None], 3, axis=1)
    save_file(tensors, folder / history.LAYERS)
    shapes = {"shapes": '{"' + '": [3, 4], "'.join(LAYERS) + '": [3, 4]}'}
    save_file({"x": np.zeros(1, np.uint8)}, folder / checkpoint.CODES, metadata=shapes)
