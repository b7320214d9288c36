"""Claims: one owner at a time; the dead hold nothing; the living keep theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sqtune.files import LocalFiles, files_at
from sqtune.train.stage_claims import CLAIM, Claims
from sqtune.train.stage_store import StageStore

KEY = "k" * 64


@pytest.fixture(params=["folder", "memory"])
def files(request, tmp_path):
    if request.param == "folder":
        return files_at(tmp_path / "stages")
    return files_at(f"memory://{tmp_path}/stages")


@contextmanager
def holding(folder, owner: str) -> Iterator[subprocess.Popen]:
    """Run a process that claims KEY, for the block at most."""
    code = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from sqtune.train.stage_claims import Claims
        from sqtune.files import LocalFiles
        print(Claims(LocalFiles(Path({str(folder)!r}))).claim({KEY!r}, {owner!r}), flush=True)
        time.sleep(600)
        """
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def test_one_owner_at_a_time(files):
    claims = Claims(files)
    assert claims.holder(KEY) is None
    assert claims.claim(KEY, "one")
    assert claims.holder(KEY) == "one"
    assert not claims.claim(KEY, "two")
    assert not Claims(files).claim(KEY, "two")
    assert claims.claim(KEY, "one")  # taken up again
    claims.release(KEY, "two")
    assert claims.holder(KEY) == "one"
    claims.release(KEY, "one")
    assert claims.holder(KEY) is None
    assert claims.claim(KEY, "two")
    claims.release(KEY, "two")
    assert files.listed() == []


def test_a_living_process_keeps_its_claim_and_a_killed_one_loses_it_at_once(tmp_path):
    with holding(tmp_path, "study:1") as process:
        claims = Claims(LocalFiles(tmp_path), void_seconds=0)  # heartbeats do not count at home
        assert claims.holder(KEY) == "study:1"
        assert not claims.claim(KEY, "study:2")
        os.kill(process.pid, signal.SIGSTOP)
        assert not claims.claim(KEY, "study:2")
        process.kill()  # a zombie until it is waited for
        deadline = time.monotonic() + 10
        while not claims.claim(KEY, "study:2"):
            assert time.monotonic() < deadline
        assert claims.holder(KEY) == "study:2"


def test_the_same_owner_in_a_new_process_takes_over(tmp_path):
    with holding(tmp_path, "study:1"):
        claims = Claims(LocalFiles(tmp_path))
        assert claims.claim(KEY, "study:1")
    assert claims.holder(KEY) == "study:1"


def test_a_number_that_another_process_got_is_not_the_same_process(tmp_path):
    claims = Claims(LocalFiles(tmp_path))
    assert claims.claim(KEY, "one")
    content = json.loads((tmp_path / f"{KEY}{CLAIM}").read_text())
    assert content["pid"] == os.getpid()
    earlier = {**content, "started_at": "1"}
    (tmp_path / f"{KEY}{CLAIM}").write_text(json.dumps(earlier))
    assert claims.holder(KEY) is None
    assert claims.claim(KEY, "two")


def elsewhere(files) -> None:
    content = {"owner": "far", "host": "another", "pid": 1, "started_at": "1"}
    files.write(f"{KEY}{CLAIM}", json.dumps(content).encode())


def test_a_claim_from_elsewhere_is_void_without_a_heartbeat(files):
    elsewhere(files)
    claims = Claims(files, void_seconds=0.4)
    assert claims.holder(KEY) == "far"
    assert not claims.claim(KEY, "near")
    time.sleep(0.3)
    files.touch(f"{KEY}{CLAIM}")  # its heart beats
    time.sleep(0.2)
    assert not claims.claim(KEY, "near")
    time.sleep(0.4)
    assert claims.holder(KEY) is None
    assert claims.claim(KEY, "near")


def test_hearts_beat_while_a_claim_is_held_and_no_longer(files):
    claims = Claims(files, heartbeat_seconds=0.05)
    before = threading.active_count()
    for _ in range(3):
        assert claims.claim(KEY, "one")
        assert claims.claim("other", "one")
        assert threading.active_count() == before + 1
        first = files.modified_at(f"{KEY}{CLAIM}")
        time.sleep(0.3)
        assert files.modified_at(f"{KEY}{CLAIM}") > first
        claims.release("other", "one")
        claims.release(KEY, "one")
        time.sleep(0.2)
        assert threading.active_count() == before
    assert files.listed() == []


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"{}"])
def test_a_claim_that_says_nothing_is_someone_s_until_it_is_void(files, content):
    files.write(f"{KEY}{CLAIM}", content)
    assert not Claims(files).claim(KEY, "one")
    time.sleep(0.05)
    assert Claims(files, void_seconds=0.01).claim(KEY, "one")


def test_of_many_at_the_same_moment_one_gets_it(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from sqtune.train.stage_claims import Claims
        from sqtune.files import LocalFiles
        claims = Claims(LocalFiles(Path({str(tmp_path)!r})))
        print("ready", flush=True)
        sys.stdin.readline()
        print(sum(claims.claim(f"{{n:064d}}", sys.argv[1]) for n in range(200)), flush=True)
        sys.stdin.readline()
        """
    )
    with ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", code, str(n)], **pipes))
            for n in range(4)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        assert sum(int(process.stdout.readline()) for process in processes) == 200


def test_claims_are_no_entries_and_are_not_pruned(tmp_path):
    store = StageStore(tmp_path, 2**30)
    assert store.claim(KEY, "one")
    assert store.entries() == []
    assert store.prune(0) == ()
    assert store.holder(KEY) == "one"
    store.release(KEY, "one")
    assert store.holder(KEY) is None
