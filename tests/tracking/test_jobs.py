"""The queue: nothing is lost or reordered, memory is bounded, a full disk is noticed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqtune.tracking.jobs import Job, Jobs

from .conftest import file_size_limit


@pytest.fixture
def queue(tmp_path):
    """Make queues that hold a given weight in memory."""
    made = []

    def make(most_in_memory):
        made.append(Jobs(tmp_path, most_in_memory))
        return made[-1]

    yield make
    for jobs in made:
        jobs.discard()


def epoch(number: int, epoch: int) -> Job:
    return Job("log_epoch", number, {"record": {"epoch": epoch, "train_loss": epoch / 7}})


@settings(max_examples=50)
@given(moves=st.lists(st.booleans(), max_size=80), most=st.integers(1, 5))
def test_jobs_come_back_in_order_whatever_lay_in_the_file(moves, most):
    jobs = Jobs(None, most)
    put = taken = 0
    for is_put in moves:
        if is_put:
            jobs.put(epoch(3, put))
            put += 1
        elif taken < put:
            assert jobs.take(0) == epoch(3, taken)
            taken += 1
    jobs.close()
    while taken < put:
        assert not jobs.drained
        assert jobs.take(0) == epoch(3, taken)
        taken += 1
    assert jobs.drained
    assert jobs.take(0) is None
    jobs.discard()


def test_memory_holds_no_more_than_it_may_and_the_file_leaves_nothing_behind(queue, tmp_path):
    jobs = queue(100)
    whole = Job("record_ended_trial", 4, {"epochs": [{"epoch": e} for e in range(99)]})
    jobs.put(whole)
    for number in range(50_000):
        jobs.put(epoch(number, 1))
    assert sum(job.weight for job in jobs._memory) == 100
    assert os.fstat(jobs._file.fileno()).st_size > 1_000_000
    assert not list(tmp_path.iterdir())
    assert jobs.take(0) == whole
    assert [jobs.take(0).number for _ in range(50_000)] == list(range(50_000))
    assert os.fstat(jobs._file.fileno()).st_size == 0


def test_a_job_larger_than_a_chunk_comes_back(queue):
    jobs = queue(1)
    large = Job("log_texts", None, {"texts": {"space.yaml": "x" * 3_000_000}})
    for job in (epoch(0, 1), large, epoch(0, 2)):
        jobs.put(job)
    assert [jobs.take(0) for _ in range(3)] == [epoch(0, 1), large, epoch(0, 2)]


def test_what_is_not_settled_is_counted(queue):
    jobs = queue(2)
    end = Job("end_trial", 7, {"status": "FINISHED"})
    for job in (epoch(7, 1), epoch(7, 2), epoch(8, 1), end, Job("end_study", None, {})):
        jobs.put(job)
    assert jobs.left().epochs == {7: 2, 8: 1}
    assert jobs.left().entries == {7: 1, None: 1}
    for _ in range(5):
        jobs.settle(jobs.take(0))
    assert not jobs.left()


def test_a_full_disk_loses_what_does_not_fit_and_names_the_trial(queue):
    jobs = queue(1)
    line = 90  # bytes of a spooled epoch, at most
    with file_size_limit(10 * line):
        for number in range(40):
            jobs.put(epoch(number, 1))
    assert jobs.lost
    assert jobs.lost == set(range(40 - len(jobs.lost), 40))
    jobs.put(epoch(99, 1))  # there is space again
    kept = [n for n in range(40) if n not in jobs.lost] + [99]
    assert [jobs.take(0).number for _ in kept] == kept
    assert jobs.take(0) is None
    assert sum(jobs.left().epochs.values()) == 41
