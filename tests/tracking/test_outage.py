"""A real MLflow server goes away and comes back, or does not, or loses an answer."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from sqtune.tracking import Tracker

from .conftest import Server, free_port, recorded, steps
from .test_tracker import epochs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def begin(uri: str, study: str) -> Tracker:
    tracker = Tracker(uri, None, study)
    tracker.wait_until_connected()
    tracker.start_study("uuid-1", {"sqtune.study": "small"}, {"seed": 3}, {"space.yaml": "x: 1"})
    return tracker


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_is_killed_and_comes_back_has_everything_once(server: Server):
    tracker = begin(server.uri, "killed")
    file = server.folder / "codes.safetensors"
    file.write_bytes(b"codes")
    for number in range(6):
        tracker.start_trial(number, {"lr": 0.1})
        for record in epochs(number, 8):
            tracker.log_epoch(number, record)
            if (number, record["epoch"]) == (2, 5):
                wait_until(lambda: tracker._jobs.left().epochs.get(0) is None)
                server.kill()
        tracker.end_trial(number, "FINISHED", {"size_bytes": 9.0}, {}, [file])
    wait_until(lambda: tracker.trouble)
    assert "no answer for" in tracker.trouble
    assert tracker.error is None
    server.start()
    tracker.tag_front([4])
    tracker.end_study("FINISHED", {"trials_ended": 6.0})
    server.wait()
    tracker.close()
    assert tracker.error is None
    assert tracker.trouble is None
    parent, trials = recorded(server.uri, "killed")
    assert parent.info.status == "FINISHED"
    assert sorted(trials) == list(range(6))
    for run in trials.values():
        assert run.info.status == "FINISHED"
        assert steps(server.uri, run, "train_loss") == list(range(1, 9))
        assert steps(server.uri, run, "size_bytes") == [0]


def test_a_server_that_stays_away_costs_little_time_and_what_is_missing_is_said(
    server: Server,
):
    tracker = begin(server.uri, "away")
    tracker.start_trial(0, {"lr": 0.1})
    wait_until(lambda: not tracker._jobs.left())
    server.kill()
    most, before = 5000, time.monotonic()
    for record in epochs(0, most):
        tracker.log_epoch(0, record)
    tracker.end_trial(0, "FINISHED")
    tracker.end_study("FINISHED", {})
    assert time.monotonic() - before < 15, "a caller waited"
    before = time.monotonic()
    tracker.close()
    assert 19 < time.monotonic() - before < 60
    missing = f"{most} epochs and 2 other entries of trial 0 and the study are missing on"
    assert missing in tracker.error
    assert "no answer for" in tracker.error
    server.start()
    server.wait()
    again = begin(server.uri, "away")
    again.record_ended_trial(0, {"lr": 0.1}, epochs(0, most), status="FINISHED")
    again.close()
    assert again.error is None
    _, trials = recorded(server.uri, "away")
    assert trials[0].info.status == "FINISHED"
    assert steps(server.uri, trials[0], "train_loss") == list(range(1, most + 1))


class LossyRelay:
    """A relay to a server that cuts the line before the answers to some requests, once each.

    Args:
        port: The server's port.
        lose: What those requests contain.
    """

    def __init__(self, port: int, lose: list[bytes]) -> None:
        self._port, self._lose, self.lost = port, list(lose), 0
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            losing = threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, losing), daemon=True)
            back.start()
            while data := client.recv(1 << 16):
                for mark in self._lose:
                    if mark in data:
                        self._lose.remove(mark)
                        losing.set()
                        break
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join()

    def _back(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        while data := server.recv(1 << 16):
            if losing.is_set():
                self.lost += 1
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("mlflow_retries", ["0", "2"])
def test_a_run_whose_making_was_not_answered_is_not_doubled(server, monkeypatch, mlflow_retries):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", mlflow_retries)
    study = f"lossy-{mlflow_retries}"
    lose = [b"experiments/create", b"runs/create", b"runs/log-batch", b"runs/update"]
    lose += [f"{study}-{number:04d}".encode() for number in (1, 3)]  # in the making of those runs
    relay = LossyRelay(server.port, lose)
    tracker = begin(relay.uri, study)
    for number in range(4):
        tracker.start_trial(number, {"lr": 0.1})
        for record in epochs(number, 3):
            tracker.log_epoch(number, record)
        tracker.end_trial(number, "FINISHED", {"size_bytes": 9.0})
    tracker.end_study("FINISHED", {"trials_ended": 4.0})
    tracker.close()
    relay.close()
    assert tracker.error is None
    assert relay.lost == len(lose)
    parent, trials = recorded(server.uri, study)
    assert parent.info.status == "FINISHED"
    assert sorted(trials) == [0, 1, 2, 3]
    for run in trials.values():
        assert run.info.status == "FINISHED"
        assert steps(server.uri, run, "train_loss") == [1, 2, 3]
        assert steps(server.uri, run, "size_bytes") == [0]


def test_a_server_that_is_not_there_is_refused_at_once():
    before = time.monotonic()
    tracker = Tracker(f"http://127.0.0.1:{free_port()}", None, "small")
    with pytest.raises(Exception, match="does not answer"):
        tracker.wait_until_connected()
    tracker.close()
    assert time.monotonic() - before < 60
