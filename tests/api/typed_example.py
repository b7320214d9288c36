"""The API as a program uses it; `make check` looks at its types, a test runs it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torch

import sqtune


def use(space: dict[str, object], store: Path, out: Path) -> int:
    """Search, look, export and predict; return the class of a black image."""
    study = sqtune.search(space, trials=2, overrides={"trial.num_epochs": 4}, store=store)
    assert_type(study, sqtune.Study)
    assert_type(study.name, str)
    again = sqtune.open_study(study.name, store=store)
    best = again.best(max_size="64KiB")
    assert_type(best, sqtune.Trial)
    assert_type(best.val_error, float)
    assert_type(best.size_bytes, int | None)
    assert len(study.trials) >= len(study.front) >= 1
    assert study.plot_front().axes
    network = sqtune.load(best.export(out, "torch", quiet=True))
    logits = network(torch.zeros((1, *network.image_shape), dtype=torch.uint8))
    try:
        study.trial(1_000)
    except sqtune.SqtuneError as error:
        print(error)
    return int(logits.argmax())
