"""One search from start to end: propose, execute, record, name the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sqtune.config.space import SearchSpace
from sqtune.errors import ClusterError, StudyError
from sqtune.provenance import provenance
from sqtune.search.choice import choose
from sqtune.search.courses import Courses
from sqtune.search.driver import Driver
from sqtune.search.interrupts import stopped_by_ray, stopped_by_signals
from sqtune.search.lease import leased
from sqtune.search.limits import GOOD_ENDINGS, Ending, Limits
from sqtune.search.machine import Machine
from sqtune.search.origin import leave_mark, remove_mark
from sqtune.search.outcome import Outcome, Places
from sqtune.search.prepare import file_hashes, footprints, prepare_data, stage_store
from sqtune.search.progress import Progress
from sqtune.search.record import (
    Page,
    describe,
    hand_over,
    record_page,
    record_run_ids,
    record_study,
    record_trial,
)
from sqtune.search.room import room_at_first, slots_counted
from sqtune.search.storage import open_named, open_storage, study_names
from sqtune.search.study import Study
from sqtune.tracking import Tracker

IN_A_HURRY: tuple[Ending, ...] = ("interrupted", "unwritable", "unsuited node", "taken over")


def run_search(
    space: SearchSpace,
    space_text: str,
    places: Places,
    progress: Progress,
    *,
    warm_start: str | None = None,
    marks: Mapping[str, Any] = MappingProxyType({}),
    finish: Callable[[Study, Tracker], None] | None = None,
    page: Page | None = None,
) -> Outcome:
    """Run a search, or go on with it, until its trials have ended or somebody stops it.

    Args:
        space: What to search.
        space_text: The space file as it was written, for the record.
        places: Where things are kept.
        progress: Where to show how it goes.
        warm_start: Another study, whose finished trials the sampler is told of.
        marks: Attributes that tell what else the study is: `confirms`, the study whose best are
            trained again; `compares`, whether it compares methods.
        finish: Called once the trials have ended, before the study's MLflow run is ended; not after
            Ctrl-C, nor where nothing can be written.
        page: Returns the study as an HTML page, for MLflow; called when all else is done.

    Raises:
        StudyError: The study, or the one it confirms, exists with another space or other files, or
            the one to start from does not.
        StoreError: The store is in use or cannot be written.
        DataError, NetworkError: The data are missing or do not suit the network.
        ResourceError: Not even one trial fits this machine, or a node of the cluster.
        ClusterError: The cluster does not answer, or a node does not suit.
        TrackingError: A tracking store that was named does not answer.
    """
    if warm_start == space.name:
        raise StudyError(
            f"--warm-start {warm_start}: a study learns from its own trials anyway. Name another "
            "one, or give this one another --name."
        )
    store = places.store
    tracking_uri = places.tracking_uri or store.tracking_uri
    store.reach()
    if places.study_storage is None and store.journal.exists():
        storage = open_storage(store, None)
        if space.name in study_names(storage):
            Study.load(storage, space.name).refuse_changes(space)
    machine = room_at_first(space, places.address)
    if machine.note is not None:
        progress.say(machine.note)
    data = prepare_data(space, store)
    files = file_hashes(space, store, data)
    stage_store(space, store)
    store.create()
    database = None if places.study_storage is None else open_named(places.study_storage)
    engine = None if database is None else database.engine
    with store.driven(space.name), leased(engine, space.name, progress.say) as lease:
        if database is not None and lease is not None:
            database.say, database.guard = progress.say, lease.confirm
        for path, splits in data.items():
            from sqtune.data.split import write_prepared

            write_prepared(splits, path)
            store.share(path)
        artifacts = store.artifacts if places.tracking_uri is None else None
        tracker = Tracker(
            *(tracking_uri, artifacts, space.name, store.root, store.fetch), offline=places.offline
        )
        try:
            if places.tracking_uri is not None and not places.offline:
                tracker.wait_until_connected()
            storage = database or open_storage(store, None, mend=True)
            other = None if warm_start is None else Study.load(storage, warm_start)
            measure = footprints(space, store)
            study = Study.create_or_continue(
                storage, space, provenance(), files, footprint=measure, marks=marks
            )
            if other is not None:
                told = study.warm_start(other)
                progress.say(f'warm start from "{warm_start}": {told.summary()}')
            record_study(study, space_text, tracker, store)
            limits = Limits(
                space.search,
                machine.resources.known_gpus,
                sum(trial.seconds for trial in study.trials()),
                lambda: (lease or store).is_stop_requested(space.name),
                lambda: lease is not None and lease.lost,
            )
            if database is not None:
                database.hurried = lambda: limits.interrupted
            with stopped_by_signals(limits):
                driver = _drive(study, places, machine, tracker, progress, limits)
                return _wrap_up(driver, finish, page)
        except ClusterError:
            tracker.end_study("KILLED", {})
            raise
        finally:
            tracker.close()


def _drive(
    study: Study,
    places: Places,
    machine: Machine,
    tracker: Tracker,
    progress: Progress,
    limits: Limits,
) -> Driver:
    """Run the trials that are still wanted."""
    store, resources = places.store, machine.resources
    space = study.space.model_copy(update={"resources": resources})
    num_slots = min(space.search.max_concurrent or machine.slots, machine.slots)
    origin = None if places.address is None else leave_mark(store, space.name)
    courses = Courses(space, store, stage_store(space, store), study.attrs["uuid"], origin)
    driver = Driver(study, tracker, progress, store, limits, courses, num_slots=num_slots)
    to_go = space.search.num_trials - driver.counted
    if to_go <= 0 or driver.should_stop():
        return driver
    if driver.counted:
        progress.say(f'continuing "{study.name}": {driver.counted} trials have ended')
    with stopped_by_ray(limits), _ray(places, machine, progress), stopped_by_signals(limits):
        from sqtune.search.executor import run_trials

        if origin is not None:
            from sqtune.search.nodes import check_nodes

            check_nodes(origin, resources)
        try:
            if resources.gpus == "auto":
                from sqtune.search.auto_share import settle

                settled = settle(space, study, store, progress.say, driver.should_stop)
                if settled is None:
                    return driver
                resources = settled
            driver.mishaps.gpus = limits.gpus = resources.known_gpus
            slots = slots_counted(driver, machine, resources, in_cluster=origin is not None)
            progress.say(
                f'study "{space.name}": {to_go} trials to go, {min(slots(), to_go)} at once'
            )
            progress.begin(
                space.search.num_trials,
                study.trials(),
                limits.deadline,
                lambda: tracker.trouble and f"MLflow: {tracker.trouble}",
            )
            run_trials(driver, resources, num_slots=slots, folder=store.ray(space.name))
        except KeyboardInterrupt:  # the second one
            limits.interrupted = True
        finally:
            progress.end()
            if origin is not None:
                remove_mark(origin)
    return driver


def _ray(places: Places, machine: Machine, progress: Progress) -> AbstractContextManager[None]:
    """Return Ray: started on this machine, or joined in a cluster."""
    if places.address is None:
        progress.say("starting Ray on this machine ...")
        from sqtune.search.executor import local_ray
        from sqtune.search.placing import refuse_second_ray

        refuse_second_ray()
        return local_ray(machine.cpus, machine.gpus)
    progress.say(f"joining the Ray cluster at {places.address} ...")
    from sqtune.search.nodes import joined
    from sqtune.search.placing import refuse_second_ray

    refuse_second_ray()
    return joined(places.address, places.working_dir, progress.say)


def _wrap_up(
    driver: Driver,
    finish: Callable[[Study, Tracker], None] | None,
    page: Page | None,
) -> Outcome:
    """Leave study and MLflow consistent, whatever ended the trials, and name the best."""
    study, tracker, store = driver.study, driver.tracker, driver.store
    ending = driver.ending()
    if ending == "taken over":  # nothing here is ours any more
        return Outcome(study.name, study.space, ending, [], None, None, None, None, None)
    for number in study.release_unfinished():
        tracker.end_trial(number, "KILLED")
    if ending in GOOD_ENDINGS:
        for number in study.close_paused():
            record_trial(study.trial(number), tracker, store, study.name)
    choice = choose(study.name, study.attrs, study.trials())
    if choice is not None and ending in GOOD_ENDINGS:
        hand_over(study, choice.trial, tracker, store)
        choice = replace(choice, trial=study.trial(choice.trial.number))
    if finish is not None and ending not in IN_A_HURRY:
        finish(study, tracker)
    trials = study.trials()
    describe(study, trials, choice, tracker)
    metrics = {
        "trials_ended": float(driver.counted),
        "epochs_asked": float(sum(trial.epochs_asked for trial in trials)),
        "epochs_trained": float(sum(trial.epochs_trained for trial in trials)),
    }
    if choice is not None and choice.trial.val_error is not None:
        metrics["best_val_error"] = choice.trial.val_error
    tracker.end_study("FINISHED" if ending in GOOD_ENDINGS else "KILLED", metrics)
    if page is not None and ending not in IN_A_HURRY:
        record_page(page, study, trials, tracker, store, driver.say)
    tracker.close()
    record_run_ids(study, tracker)
    hindrance = driver.limits.hindrance
    return Outcome(
        study=study.name,
        space=study.space,
        ending=ending,
        trials=trials,
        choice=choice,
        network=None if choice is None else store.network(study.name, choice.trial.number),
        tracking_problem=tracker.error,
        stage_problem=next(filter(None, (t.facts.get("stage_problem") for t in trials)), None),
        why=study.exhausted if ending == "exhausted" else hindrance and hindrance[1],
        front_page=tracker.front_page,
        attrs=study.attrs,
    )
