"""`sqtune.search` and `sqtune.open_study`: what the commands do, for notebooks and programs."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqtune.errors import (
    ClusterError,
    ConfigError,
    SqtuneError,
    StoreError,
    StudyError,
    TrainingError,
)
from sqtune.settings import setting
from sqtune.store import DEFAULT_STORE, Store

if TYPE_CHECKING:
    from sqtune.notebook import Study
    from sqtune.search.outcome import Outcome, Places

# Of tqdm, which Optuna imports, in notebooks without widgets; nobody sees its bars here.
warnings.filterwarnings("ignore", "IProgress not found")

TEXT = (str, type(None))
RAISED: dict[str, type[SqtuneError]] = {
    "failures": TrainingError,
    "unwritable": StoreError,
    "unsuited node": ClusterError,
    "taken over": StudyError,
}


def search(
    space: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    trials: int | None = None,
    concurrent: int | None = None,
    name: str | None = None,
    time_limit: float | str | None = None,
    target_error: float | str | None = None,
    warm_start: str | None = None,
    store: str | os.PathLike[str] | None = None,
    study_storage: str | None = None,
    tracking_uri: str | None = None,
    offline: bool = False,
    address: str | None = None,
    working_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Study:
    """Search a space, as `sqtune search` does; the same call again goes on where it stopped.

        study = sqtune.search("search_spaces/resnet.yaml", trials=24)
        study.best(max_size="20KiB").export("deployed")

    The interrupt of a notebook, or Ctrl-C, ends the search in good order and then raises
    KeyboardInterrupt; what was trained is stored, and `sqtune.open_study` reads it. A second one
    ends it at once. In a thread beside the main one, which alone is interrupted, `sqtune stop` ends
    it.

    Args:
        space: A space file, or a mapping with the keys of one.
        overrides: Values in place of the space's, by dotted path: {"trial.num_epochs": 2}.
        trials: Trials to end (search.num_trials).
        concurrent: Trials at once (search.max_concurrent).
        name: Of the study; by default the space's name, a file's by its own, else "study".
        time_limit: The search ends after this time: "2h", "90min" or seconds.
        target_error: The search ends once a quantized network has at most this validation error:
            "1%" or 0.01.
        warm_start: Another study, of whose trials the sampler is told.
        store: Folder or URL that holds studies and networks. This and the four below are taken from
            the environment or the settings file where they are not given, as by the commands.
        study_storage: URL of a database of studies.
        tracking_uri: MLflow's tracking URI.
        offline: Whether MLflow's server need not answer.
        address: Of the Ray cluster that trains; "local" for this machine.
        working_dir: Folder that a cluster's workers get a copy of, and import from.
        quiet: Whether to print nothing while it runs.

    Returns:
        The study as it ended; `ending` says why it did.

    Raises:
        SqtuneError: A mistake in the space, or something that kept the search from its end.
        KeyboardInterrupt: It was interrupted.
    """
    from sqtune.config.asked import asked_space
    from sqtune.config.load import space_text
    from sqtune.config.units import parse_duration, parse_share
    from sqtune.next_steps import as_options
    from sqtune.notebook import Study, parsed, printer
    from sqtune.report import page_maker
    from sqtune.search.progress import Progress
    from sqtune.search.run import run_search

    _check("space", space, (str, os.PathLike, Mapping), "a space file's path, or a mapping")
    _check("overrides", overrides, (Mapping, type(None)), "a mapping, {path: value}")
    for argument, count in (("trials", trials), ("concurrent", concurrent)):
        _check(argument, count, (int, type(None)), "a whole number")
    _check("name", name, TEXT, "a text")
    _check("warm_start", warm_start, TEXT, "a study's name")
    source = space if isinstance(space, Mapping) else Path(space)
    asked = asked_space(
        source,
        [f"{path}={_as_yaml(path, value)}" for path, value in (overrides or {}).items()],
        name=name,
        num_trials=trials,
        max_concurrent=concurrent,
        time_limit_seconds=parsed("time_limit", parse_duration, time_limit),
        target_error=parsed("target_error", parse_share, target_error),
        in_code=True,
    )
    places = _places(store, study_storage, tracking_uri, address, working_dir, offline=offline)
    progress = Progress(printer(quiet=quiet))
    given = {"store": None if store is None else os.fspath(store), "study_storage": study_storage}
    page = page_maker(as_options(given))
    outcome = run_search(
        asked, space_text(source), places, progress, warm_start=warm_start, page=page
    )
    _raise_or_warn(outcome)
    return Study(asked, outcome.trials, places, outcome.ending, outcome.attrs)


def open_study(
    name: str | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    study_storage: str | None = None,
    tracking_uri: str | None = None,
) -> Study:
    """Return a study as it stands now, also while somebody searches.

    Args:
        name: Its name; by default the study that was searched last.
        store: As for `search`, and so are the others.
        study_storage: URL of a database of studies.
        tracking_uri: MLflow's tracking URI, for what is exported.

    Raises:
        SqtuneError: There is no such study or no such store.
    """
    from sqtune.notebook import Study
    from sqtune.search.look import load_study

    _check("name", name, TEXT, "a study's name")
    places = _places(store, study_storage, tracking_uri)
    study, trials = load_study(places.store.place, places.study_storage, name)
    return Study(study.space, trials, places, attrs=study.attrs)


def _places(
    store: str | os.PathLike[str] | None,
    study_storage: str | None,
    tracking_uri: str | None,
    address: str | None = None,
    working_dir: str | os.PathLike[str] | None = None,
    *,
    offline: bool = False,
) -> Places:
    from sqtune.search.outcome import Places

    _check("store", store, (*TEXT, os.PathLike), "a folder or a URL")
    _check("working_dir", working_dir, (*TEXT, os.PathLike), "a folder")
    urls = {"study_storage": study_storage, "tracking_uri": tracking_uri, "address": address}
    for argument, url in urls.items():
        _check(argument, url, TEXT, "a text")
    cluster = setting("address", address)
    return Places(
        Store.at(setting("store", None if store is None else os.fspath(store)) or DEFAULT_STORE),
        setting("study_storage", study_storage),
        setting("tracking_uri", tracking_uri),
        None if cluster == "local" else cluster,
        None if working_dir is None else Path(working_dir).resolve(),
        offline,
    )


def _check(argument: str, value: object, kinds: tuple[type, ...], what: str) -> None:
    """Refuse an argument of another kind, as a program without a type checker may give it."""
    if not isinstance(value, kinds):
        raise ConfigError(f"{argument}={value!r}: give {what}.")


def _as_yaml(path: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        raise ConfigError(
            f"overrides: {path}: {value!r} is no value of a space file: give a number, a text, a "
            "list or a mapping."
        ) from None


def _raise_or_warn(outcome: Outcome) -> None:
    """Raise where the command would fail; warn of what else went wrong."""
    from sqtune.search.endings import ENDINGS, nothing_trained
    from sqtune.search.records import reason_of

    for problem, what in (
        (outcome.stage_problem, "not every stage was stored"),
        (outcome.tracking_problem, "MLflow does not have everything"),
    ):
        if problem:
            # behind search and the package that passes the call on: the caller's line
            warnings.warn(f"{what}: {problem}", stacklevel=4)
    ending, why = outcome.ending, outcome.why or ENDINGS.get(outcome.ending, "")
    if ending == "interrupted":
        raise KeyboardInterrupt(
            f'{ENDINGS[ending]}; sqtune.open_study("{outcome.study}") has what is there'
        )
    if ending in RAISED:
        raise RAISED[ending](f'study "{outcome.study}": {why}')
    if outcome.best is None and ending == "exhausted":
        raise nothing_trained(outcome)
    if outcome.best is None and ending == "complete":
        failure = next(filter(None, (trial.failure for trial in outcome.trials)), "")
        raise TrainingError(
            f'no trial of "{outcome.study}" has finished; the first failed: '
            f"{reason_of(failure)}. See: sqtune logs TRIAL"
        )
