"""What one proposal, one report, one request and one checkpoint ask of each part of a search.

    python benchmarks/scale_parts.py                         # ten minutes
    python benchmarks/scale_parts.py study --running 16 --no-save

The figures that docs/scale.md computes with:

    study     a proposal, an epoch's report and a trial's end: ms, the driver's processor time
              and statements, in the journal and in PostgreSQL, while other trials are running
    tracking  an epoch, and a trial's start and end, in MLflow: ms of the one thread that writes,
              and processor time of a server on SQLite and on PostgreSQL
    stages    bytes of a checkpoint, and requests to an object store in a training of two stages
    slots     how Ray's wait for the next report, and the search for a trial that need not wait for
              another's stage, grow with the trials at once
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _results import Figure, Pedigree
from _servers import mlflow_server, postgres, postgres_programs
from _simulated import SPACE, epoch_result, nothing
from _slots_and_stages import slots, stages
from tracking_cost import cpu_seconds

NUM_EPOCHS = 8
METRICS = {
    key: value for key, value in epoch_result(0, 1, 5.0).items() if key not in ("epoch", "seconds")
}


def study(running: list[int], repetitions: int) -> Iterator[Figure]:
    """Time what the driver does with a study, while others are running."""
    from sqtune.search.storage import open_named, open_storage
    from sqtune.store import Store

    with tempfile.TemporaryDirectory(prefix="sq") as name:
        store = Store.at(Path(name))
        yield from _study("journal", open_storage(store, None), Counter(), running, repetitions)
    if postgres_programs() is None:
        return
    with tempfile.TemporaryDirectory(prefix="pg") as name, postgres(Path(name), "study") as urls:
        storage, statements = open_named(urls[0]), Counter[str]()
        from sqlalchemy import event

        for moment, what in (("before_cursor_execute", "statements"), ("commit", "transactions")):
            event.listen(storage.engine, moment, _counter(statements, what))
        yield from _study("PostgreSQL", storage, statements, running, repetitions)


def _counter(counts: Counter[str], what: str) -> Callable[..., None]:
    def count(*arguments: Any) -> None:
        del arguments
        counts[what] += 1

    return count


def _study(
    kind: str, storage: Any, statements: Counter[str], running: list[int], repetitions: int
) -> Iterator[Figure]:
    from sqtune.config import load_space
    from sqtune.search.study import Study

    for sampler in ("random", "tpe"):
        changes = [f"search.sampler={sampler}", "search.num_trials=100000"]
        space = load_space(SPACE, changes).model_copy(update={"name": sampler})
        found, others = Study.create_or_continue(storage, space, {}), 0
        for wanted in running:
            for _ in range(wanted - others):
                _begin(found)
            others = wanted
            seconds: dict[str, list[float]] = defaultdict(list)
            counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

            def timed(what: str, act: Callable[[], Any]) -> Any:
                statements.clear()
                started, cpu = time.perf_counter(), time.process_time()
                result = act()
                counts[what]["ms of processor"] += 1000 * (time.process_time() - cpu)  # noqa: B023
                seconds[what].append(1000 * (time.perf_counter() - started))  # noqa: B023
                for unit, number in statements.items():
                    counts[what][unit] += number  # noqa: B023
                return result

            for _ in range(repetitions):
                trial = timed(f"proposal ({sampler})", found.ask)
                if trial.state != "running":
                    continue
                for epoch in (1, 2):
                    timed("epoch", lambda: found.report(trial.number, epoch, METRICS))  # noqa: B023
                timed("trial's end", lambda: found.finish(trial.number, 0.1, {"node": "x"}))  # noqa: B023
            for what, values in seconds.items():
                if sampler == "random" and "proposal" not in what:
                    continue
                title = f"{kind}, {wanted} running: {what}"
                yield Figure(title, "ms", values)
                for unit, number in counts[what].items():
                    yield Figure(f"{title}: {unit}", "", [number / len(values)])


def _begin(study: Any) -> None:
    """Begin a trial that stays: it reports half of its epochs."""
    trial = study.ask()
    while trial.state != "running":
        trial = study.ask()
    for epoch in range(1, NUM_EPOCHS // 2 + 1):
        study.report(trial.number, epoch, METRICS)


def tracking(repetitions: int) -> Iterator[Figure]:
    """Time what MLflow's thread writes of trials."""
    from sqtune.tracking import quiet_environment

    quiet_environment()
    with tempfile.TemporaryDirectory(prefix="sq") as name:
        uri, artifacts = f"sqlite:///{name}/mlflow.db", Path(name) / "artifacts"
        yield from _tracking("embedded SQLite", uri, artifacts, None, repetitions)
        with mlflow_server(Path(name)) as (uri, process):
            yield from _tracking("server on SQLite", uri, None, process, repetitions)
    if postgres_programs() is None:
        return
    with (
        tempfile.TemporaryDirectory(prefix="pg") as name,
        tempfile.TemporaryDirectory(prefix="sq") as files,
        postgres(Path(name), "mlflow") as urls,
        mlflow_server(Path(files), urls[0]) as (uri, process),
    ):
        yield from _tracking("server on PostgreSQL", uri, None, process, repetitions)


def _tracking(
    kind: str, uri: str, artifacts: Path | None, process: Any, repetitions: int
) -> Iterator[Figure]:
    from sqtune.tracking.writer import Writer

    writer = Writer(uri, artifacts, "benchmark", nothing)
    writer.connect()
    writer.start_study("uuid", {}, {}, time_ms=int(1000 * time.time()))
    seconds: dict[str, list[float]] = defaultdict(list)
    server: dict[str, list[float]] = defaultdict(list)

    def timed(what: str, act: Callable[[], None]) -> None:
        before = cpu_seconds(process) if process else 0.0
        started = time.perf_counter()
        act()
        seconds[what].append(1000 * (time.perf_counter() - started))
        server[what].append(1000 * (cpu_seconds(process) - before) if process else 0.0)

    params = {f"field.{number}": "0.123456" for number in range(40)}
    end = {"tags": {"sqtune.node": "10.0.0.1"}, "files": [], "metrics": {"bits": 1.0, "s": 1.0}}
    for number in range(repetitions):
        now = int(1000 * time.time())
        timed("trial's start", lambda: writer.start_trial(number, params, now))  # noqa: B023
        for epoch in range(1, NUM_EPOCHS + 1):
            record = {**METRICS, "epoch": epoch, "time": now + epoch}
            timed("epoch", lambda: writer.log_epochs(number, [record]))  # noqa: B023
        timed(
            "trial's end",
            lambda: writer.end_trial(number, "FINISHED", **end, time_ms=now + 9),  # noqa: B023
        )
    for what, values in seconds.items():
        yield Figure(f"MLflow, {kind}: {what}", "ms", values)
        if process:
            yield Figure(
                f"MLflow, {kind}: {what}, the server's processor",
                "ms",
                [statistics.fmean(server[what])],
            )


@contextmanager
def _quiet() -> Iterator[None]:
    import logging
    import warnings

    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    options = _options()
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "study": lambda: study(options.running, options.repetitions),
        "tracking": lambda: tracking(options.repetitions),
        "stages": stages,
        "slots": slots,
    }
    pedigree, figures = Pedigree(), list[Figure]()
    with _quiet():
        for part in options.parts or parts:
            for figure in parts[part]():
                figures.append(figure)
                print(
                    f"{figure.name}: {statistics.median(figure.values):.3f} {figure.unit}",
                    flush=True,
                )
    pedigree.report(
        "scale_parts",
        figures,
        settings={"running": options.running, "repetitions": options.repetitions},
        seeds={},
        notes=["PostgreSQL is reached by a socket on this machine: a network adds its round trips"],
        save=not options.no_save,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="study, tracking, stages, slots; all by default")
    parser.add_argument("--running", type=int, nargs="+", default=[64, 512], help="other trials")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
