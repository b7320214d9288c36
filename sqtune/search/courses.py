"""What each trial of a search trains, as the stage store sees it, and the legs that workers get."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqtune.config.corners import corner_points
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.errors import StoreError
from sqtune.search.prepare import data_fingerprint, prepared
from sqtune.search.records import TrialRecord
from sqtune.search.sharing import Course, Sharing
from sqtune.store import Store

if TYPE_CHECKING:
    from sqtune.search.origin import Origin
    from sqtune.search.worker import Assignment
    from sqtune.train.stage_store import StageStore

MOST_BRANCHES = 24  # epochs at which a checkpoint is kept for other schedules of the space


class Courses:
    """Turns trials into courses and legs.

    Args:
        space: What is searched.
        store: Where data, networks and logs lie.
        stages: Where checkpoints lie.
        study: The study's own id.
        origin: What workers must have in common with the driver; None where they are its own.
    """

    def __init__(
        self,
        space: SearchSpace,
        store: Store,
        stages: StageStore,
        study: str,
        origin: Origin | None = None,
    ) -> None:
        self._space, self._store, self._study = space, store, study
        self._origin = None if origin is None else asdict(origin)
        self._stages = stages
        self.sharing = Sharing(self._longest)
        self._branches = branch_epochs(space)

    def course(self, config: TrialConfig) -> Course:
        """Return what a configuration trains."""
        from sqtune.train.stages import epoch_keys, stage_ends

        keys = epoch_keys(
            config,
            data_fingerprint(prepared(config, self._store)),
            device=self._space.resources.device,
            num_threads=self._space.resources.num_threads,
        )
        stops = {*stage_ends(config), *self._kept(config)}
        return Course(keys, tuple(sorted(stops)))

    def leg(self, trial: TrialRecord, rungs: tuple[int, ...], gpus: float) -> Assignment:
        """Return the next leg of a trial that has these rungs ahead of it and gets so many GPUs."""
        from sqtune.search.worker import Assignment

        space, store = self._space, self._store
        return Assignment(
            number=trial.number,
            config=trial.config.model_dump_json(),
            store=store.place,
            data=store.name(prepared(trial.config, store)),
            save_to=store.name(store.network(space.name, trial.number)),
            num_threads=space.resources.num_threads,
            device=space.resources.device,
            gpus=gpus,
            log=store.name(store.log(space.name, trial.number)),
            watchdog_seconds=space.search.watchdog_seconds,
            rungs=rungs,
            stages=self._stages.place,
            stages_max_size=space.stages.max_size,
            keep=self._kept(trial.config),
            owner=f"{self._study}:{trial.number}",
            origin=self._origin,
        )

    def _longest(self, keys: tuple[str, ...]) -> int:
        """Return how many of the first epochs are stored; none where the store does not answer."""
        try:
            return self._stages.longest(keys)
        except StoreError:
            return 0  # workers report why; trials train alone meanwhile

    def _kept(self, config: TrialConfig) -> tuple[int, ...]:
        """Return the epochs at which others may branch off, or this one may be held."""
        branches = self._branches.get(config.num_epochs, ())
        rungs = self._space.search.early_stopping.epochs(config.num_epochs)
        return tuple(sorted({*branches, *rungs}))


def branch_epochs(space: SearchSpace) -> dict[int, tuple[int, ...]]:
    """Return, by number of epochs, where the stages of some schedule of the space end.

    Schedules that begin alike part there. Where there are too many to keep a checkpoint of each,
    none is kept for the sake of others.
    """
    from sqtune.train.stages import stage_ends

    ends: dict[int, set[int]] = {}
    for schedule in {space.config(values) for values in corner_points(space)}:
        ends.setdefault(schedule.num_epochs, set()).update(stage_ends(schedule))
    return {
        num_epochs: tuple(sorted(epochs)) if len(epochs) <= MOST_BRANCHES else ()
        for num_epochs, epochs in ends.items()
    }
