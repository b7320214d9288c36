"""What the page says in words and commands: the network, what ended early, provenance."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqtune.report.facts import Report, stops
from sqtune.search.confirmed import mean_text
from sqtune.search.fit import nearest
from sqtune.search.importance import FEWEST_TRIALS
from sqtune.search.records import TrialRecord, reason_of
from sqtune.search.tables import (
    bits_text,
    counts_text,
    quantizer_text,
    schedule_text,
    selection_text,
)
from sqtune.search.wording import count_text, duration, kib, measured, percent, plural
from sqtune.store import file_name

MOST_NUMBERS = 40  # of trials in a line
MOST_REASONS = 12


@dataclass(frozen=True, slots=True)
class Command:
    """A command to copy, with what it is for."""

    purpose: str
    text: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that the page offers to save."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Trials that ended for the same reason."""

    reason: str
    numbers: str
    detail: str = ""


Facts = list[tuple[str, str]]


def overview(report: Report) -> Facts:
    """Return the study's figures, a few words each."""
    trials, winner = report.trials, report.winner
    begun = [trial for trial in trials if trial.duplicate_of is None and trial.epochs]
    asked = sum(trial.epochs_asked for trial in begun)
    facts = []
    if report.is_search and winner is not None and winner.val_error is not None:
        images = winner.facts.get("num_validation")
        facts += _errors(report, f"{percent(winner.val_error, images)} %")
        facts.append(("size", kib(winner.size_bytes)))
        facts.append(("weights", bits_text(winner)))
    facts.append(("trials", counts_text(trials)))
    if asked:
        trained = sum(trial.epochs_trained for trial in begun)
        facts.append(("epochs trained", f"{trained:,} of {asked:,}"))
    seconds = sum(trial.seconds for trial in trials)
    if seconds:
        facts.append(("training time, summed", duration(seconds)))
    return facts


def network(report: Report, winner: TrialRecord) -> Facts:
    """Return what is known of the network that the page is about."""
    config, facts = winner.config, winner.facts
    found = [
        ("trial", f"{winner.number}"),
        ("network", _named(config.nested()["network"])),
        ("images", _named(config.nested()["data"])),
        ("quantizer", f"{quantizer_text(config)}, {bits_text(winner)}"),
        ("ratio schedule", schedule_text(config)),
        ("selection", selection_text(config)),
        ("learning rate", f"{config.optimizer.lr:.3g} ({config.optimizer.name})"),
        ("epochs", f"{config.num_epochs}, batches of {config.batch_size}"),
        ("seed", f"{config.seed}"),
    ]
    if winner.val_error is not None:
        found += _errors(report, measured(winner.val_error, facts.get("num_validation")))
    if winner.test_error is not None:
        test_error = measured(winner.test_error, facts.get("num_test"))
        found.append(("test error", f"{test_error}, measured once"))
    else:
        found.append(("test error", "not measured for this trial"))
    found.append(("exported size, predicted", kib(winner.size_bytes)))
    for fact, name in (("macs", "multiply-adds"), ("bit_operations", "bit operations")):
        if fact in facts:
            found.append((name, f"{count_text(facts[fact])} for one image"))
    if "ram_bytes" in facts:
        found.append(("RAM, predicted", kib(facts["ram_bytes"])))
    if report.weights_bytes and winner.size_bytes:
        times = report.weights_bytes / winner.size_bytes
        found.append(("smaller than its float weights", f"{times:.1f} times"))
    return found


def _errors(report: Report, once: str) -> Facts:
    """Return the validation errors: the mean over new seeds first, if any; then the search's."""
    if report.mean is None:
        return [("validation error", once)]
    seeds = plural(len(report.mean.errors), "new seed")
    return [(f"mean over {seeds}", mean_text(report.mean)), ("search, once", once)]


def _named(fields: dict[str, Any]) -> str:
    """Return a mapping with a name in a few words, without what is not set."""
    rest = {key: value for key, value in fields.items() if key != "name" and value is not None}
    words = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in rest.items())
    return " ".join((str(fields.get("name", "")), *words)).strip()


def no_importance(report: Report) -> str:
    """Return why the page does not tell how much each searched value matters; "" where it does."""
    if report.importance or not report.is_search:
        return ""
    finished = sum(trial.state == "finished" for trial in report.trials)
    if finished < FEWEST_TRIALS:
        return f"Importance needs {FEWEST_TRIALS} finished trials; there are {finished}."
    return "Importance: nothing sets the best of these trials apart from the others."


def files_to_save(report: Report) -> list[File]:
    """Return the space of the study and, where there is one, the network's own configuration."""
    name = file_name(report.name)
    space = report.space.model_dump(mode="json", by_alias=True, exclude_none=True)
    files = [File(f"{name}.json", json.dumps(space, indent=1, ensure_ascii=False))]
    winner = report.winner
    if winner is not None:
        content = {
            "name": f"{report.name}, trial {winner.number}"[:200],
            "trial": winner.config.model_dump(mode="json", exclude_none=True),
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        files.append(File(f"{name}-trial-{winner.number}.json", text))
    return files


def commands(report: Report) -> Iterator[Command]:
    """Yield what to type to have the network, again or elsewhere."""
    name, winner, at = shlex.quote(report.name), report.winner, report.options
    if winner is None:
        return
    own = f"{file_name(report.name)}-trial-{winner.number}"
    yield Command(
        "Train it again, alone, from the file below", f"sqtune train --space {own}.json --out {own}"
    )
    if report.is_search:
        yield Command("Train the best again with new seeds", f"sqtune confirm {name}{at}")
    export = f"sqtune export {name}{at} --trial {winner.number} --out deployed"
    yield Command("Write it as a packed file, proven equal to what was trained", export)
    yield Command("Check that file on another machine", "sqtune verify deployed")


def stopped_groups(report: Report) -> list[Group]:
    """Return which trials were stopped where."""
    groups = []
    for stop in stops(report.trials):
        here = [
            trial
            for trial in report.trials
            if trial.state == "stopped"
            and (len(trial.epochs), trial.config.num_epochs) == (stop.epoch, stop.num_epochs)
        ]
        why = next((trial.why for trial in here if trial.why), "")
        groups.append(Group(f"after epoch {stop.epoch} of {stop.num_epochs}", _numbers(here), why))
    return groups


def failures(report: Report) -> list[Group]:
    """Return failures by their reason, the most frequent first, with the first one's details."""
    by_reason: dict[str, list[TrialRecord]] = {}
    for trial in report.trials:
        if trial.state == "failed":
            by_reason.setdefault(reason_of(trial.failure), []).append(trial)
    groups = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [
        Group(reason, _numbers(trials), (trials[0].failure or "").strip())
        for reason, trials in groups[:MOST_REASONS]
    ]


def refused(report: Report) -> Group | None:
    """Return the trials that were not trained since they do not fit."""
    trials = [trial for trial in report.trials if trial.state == "refused"]
    if not trials:
        return None
    near = nearest(trials, report.space.target) if report.space.target is not None else None
    why = f"The nearest is trial {near.number}: {near.why}" if near else trials[0].why or ""
    return Group(f"{plural(len(trials), 'proposal')} refused, untrained", _numbers(trials), why)


def _numbers(trials: list[TrialRecord]) -> str:
    shown = ", ".join(str(trial.number) for trial in trials[:MOST_NUMBERS])
    more = f" and {len(trials) - MOST_NUMBERS:,} more" if len(trials) > MOST_NUMBERS else ""
    return f"trial{'s'[: len(trials) > 1]} {shown}{more}"


def provenance(report: Report) -> Facts:
    """Return where, when and with what this was measured."""
    times = [
        epoch["time"] / 1000
        for trial in report.trials
        for epoch in trial.epochs
        if epoch.get("time")
    ]
    found = []
    if times:
        found += [("first epoch", _date(min(times))), ("last epoch", _date(max(times)))]
        found.append(("between them", duration(max(times) - min(times))))
    seconds = sum(trial.seconds for trial in report.trials)
    if seconds:
        found.append(("training time, summed over trials", duration(seconds)))
    nodes = sorted({str(t.facts["node"]) for t in report.trials if "node" in t.facts})
    if nodes:
        found.append(("nodes", ", ".join(nodes)))
    resources = report.space.resources
    gpus = f"{resources.gpus} GPU" if resources.gpus else "no GPU"
    found.append(("a trial gets", f"{resources.cpus:g} CPU, {gpus}"))
    found.append(("sampler", f"{report.space.search.sampler}, seed {report.space.search.seed}"))
    found.append(("objectives", ", ".join(report.space.search.objectives)))
    if report.confirms is not None:
        found.append(("confirms the study", report.confirms))
    found.append(("hash of the space", report.space.hash()))
    found += [(key.removeprefix("version."), value) for key, value in report.provenance.items()]
    found.append(("this page was written", _date(report.written_at)))
    return found


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
