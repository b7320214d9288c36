"""A driver killed after any write of the journal, or within it: the next one ends the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqtune.config import load_space
from sqtune.config.space import SearchSpace
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

SPACE = """\
trial: {num_epochs: 2}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 4, sampler: random, seed: 5}
"""


def drive(store: Store, space: SearchSpace) -> list[tuple[Any, ...]]:
    """Drive the study to its end; return what it came to."""
    study = Study.create_or_continue(open_storage(store, None, mend=True), space, {})
    while sum(trial.state == "finished" for trial in study.trials()) < space.search.num_trials:
        trial = study.ask()
        for epoch in (1, 2):
            study.report(trial.number, epoch, {"val_error": 0.5 / (1 + trial.number) / epoch})
        study.finish(trial.number, study.trial_last_error(trial.number), {"size_bytes": 1})
    return [
        (t.number, t.state, t.values, t.config, [e["val_error"] for e in t.epochs], t.facts)
        for t in study.trials()
    ]


def test_whatever_was_written_last_the_study_ends_the_same(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SPACE, encoding="utf-8")
    space = load_space(path)
    whole = Store.at(tmp_path / "whole")
    whole.create()
    undisturbed = drive(whole, space)
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 30
    for written in range(len(lines)):
        for cut in (0, 20, len(lines[written]) - 1):
            store = Store.at(tmp_path / f"{written}-{cut}")
            store.create()
            store.journal.write_bytes(b"".join(lines[:written]) + lines[written][:cut])
            assert drive(store, space) == undisturbed, (written, lines[written][:cut])
