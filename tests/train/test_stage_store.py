"""The stage store: whole entries or none, the oldest go first, nothing half-written stays."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

from sqtune.errors import StoreError
from sqtune.files import LocalFiles
from sqtune.files.local import PARTIAL
from sqtune.train.stage_store import HEADER, StageStore

GIB = 2**30


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path / "deep" / "stages")
    return f"memory://{tmp_path}/stages"  # a name of its own in this process's memory


@pytest.fixture
def store(place) -> StageStore:
    return StageStore(place, GIB)


def aged(store: StageStore, *keys: str) -> None:
    """Use the entries one after the other, the first one first."""
    for each in keys:
        time.sleep(0.01)
        store.get(each)


def test_what_is_put_comes_back_in_any_process_that_opens_the_place(store, place):
    assert not store.has(key(1))
    assert store.get(key(1)) is None
    store.put(key(1), b"one")
    store.put(key(2), b"")
    store.put(key(1), b"one, again")
    assert store.get(key(1)) == b"one, again"
    store.finish(5)
    for opened in (store, StageStore(place, GIB), pickle.loads(pickle.dumps(store))):
        assert opened.has(key(1))
        assert opened.get(key(1)) == b"one, again"
        assert opened.get(key(2)) == b""
        assert not opened.has(key(3))
        assert {entry.key for entry in opened.entries()} == {key(1), key(2)}
        assert sum(entry.size_bytes for entry in opened.entries()) == 2 * HEADER.size + 10
    store.remove(key(1))
    store.remove(key(1))
    assert (store.get(key(1)), store.has(key(2))) == (None, True)


def test_an_empty_store_makes_no_folder(tmp_path):
    store = StageStore(tmp_path / "stages", GIB)
    assert (store.entries(), store.longest([key(1)]), store.prune()) == ([], 0, ())
    assert list(tmp_path.iterdir()) == []


def test_the_longest_beginning_may_have_gaps(store):
    keys = [key(number) for number in range(6)]
    assert store.longest(keys) == 0
    store.put(keys[1], b"x")
    assert store.longest(keys) == 2
    store.put(keys[3], b"x", rolling=True)
    assert store.longest(keys) == 4
    assert store.longest(keys[:3]) == 2
    assert store.longest(keys, without={keys[3]}) == 2
    assert store.longest([key(9)]) == 0


def test_a_rolling_entry_gives_way_and_one_that_stays_does_not(store):
    store.put(key(1), b"rolling", rolling=True)
    assert store.has(key(1))
    assert not store.has(key(1), staying=True)
    assert store.get(key(1)) == b"rolling"
    store.put(key(1), b"stays")
    store.remove(key(1), rolling=True)
    assert store.has(key(1), staying=True)
    assert store.get(key(1)) == b"stays"
    assert [entry.rolling for entry in store.entries()] == [False]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"x",
        lambda whole: whole[: HEADER.size],
        lambda whole: whole[:5],
        lambda whole: b"",
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
        lambda whole: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
    ],
    ids=range(8),
)
def test_a_damaged_entry_is_removed_and_counts_as_missing(store, damage):
    store.put(key(1), b"content")
    [name] = [listed.name for listed in store._files.listed()]
    whole = store._files.read(name)
    store._files.write(name, damage(whole))
    assert store.get(key(1)) is None
    assert not store.has(key(1))
    store.put(key(1), b"content")
    assert store.get(key(1)) == b"content"


def test_a_damaged_entry_that_stays_gives_way_to_a_whole_rolling_one(store):
    store.put(key(1), b"rolling", rolling=True)
    store.put(key(1), b"stays")
    store._files.write(f"{key(1)}.stage", b"nonsense")
    assert store.get(key(1)) == b"rolling"


def test_those_used_longest_ago_go_first(store):
    for number in range(5):
        store.put(key(number), bytes(100))
    aged(store, key(3), key(1), key(0), key(4))
    time.sleep(0.01)
    assert store.get(key(2)) is not None  # a use, too
    assert [entry.key for entry in store.entries()] == [key(n) for n in (3, 1, 0, 4, 2)]
    size = HEADER.size + 100
    assert store.prune(3 * size) == (key(3), key(1))
    assert store.prune(3 * size) == ()
    assert store.prune(size, protect={key(0), key(2)}) == (key(4),)
    assert {entry.key for entry in store.entries()} == {key(0), key(2)}


def test_a_store_keeps_within_its_limit_by_itself(place):
    size = HEADER.size + 1000
    store = StageStore(place, 10 * size)
    for number in range(40):
        store.put(key(number), bytes(1000))
        time.sleep(0.001)
        assert sum(entry.size_bytes for entry in store.entries()) <= 10 * size
        assert store.has(key(number))
    assert {entry.key for entry in store.entries()} == {key(number) for number in range(30, 40)}


def test_an_entry_larger_than_the_store_is_refused(place):
    store = StageStore(place, 1000)
    store.put(key(1), bytes(900))
    with pytest.raises(StoreError, match=r"1,\d+ bytes is larger than stages.max_size \(1,000"):
        store.put(key(2), bytes(1000))
    assert store.has(key(1))


def test_a_full_disk_is_an_error_that_leaves_nothing_behind(tmp_path):
    """A real limit on the size of a file, in a process of its own: the write fails half-way."""
    code = textwrap.dedent(
        f"""
        import resource, signal, sys
        from sqtune.errors import StoreError
        from sqtune.train.stage_store import StageStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = StageStore({str(tmp_path / "stages")!r}, 2**30)
        store.put("a" * 64, b"whole")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            store.put("b" * 64, bytes(1_000_000))
        except StoreError as error:
            sys.exit(f"{{error}}")
        """
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert os.strerror(errno.EFBIG) in done.stderr
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["a" * 64 + ".stage"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "stages").write_text("a file")
    store = StageStore(tmp_path / "stages", GIB)
    with pytest.raises(StoreError, match=r"stages in .* cannot be used"):
        store.put(key(1), b"x")


def test_what_a_killed_writer_left_goes_after_an_hour(tmp_path):
    store = StageStore(tmp_path, GIB)
    store.put(key(1), b"x")
    fresh, old = (tmp_path / f"{uuid.uuid4().hex}{PARTIAL}" for _ in range(2))
    foreign = tmp_path / f"movie.mkv{PARTIAL}"
    for path in (fresh, old, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (0, time.time() - 4000))
    assert [entry.key for entry in store.entries()] == [key(1)]
    assert fresh.exists()
    assert not old.exists()
    assert foreign.exists()


def test_a_url_that_nobody_knows_is_an_error_with_a_remedy():
    with pytest.raises(StoreError, match=r"stages.url: nope://x cannot be opened.*package"):
        StageStore("nope://x", GIB)


def test_a_file_url_is_a_folder(tmp_path):
    StageStore(f"file://{tmp_path}/stages", GIB).put(key(1), b"x")
    assert StageStore(tmp_path / "stages", GIB).has(key(1))
    assert isinstance(StageStore("~/x", GIB)._files, LocalFiles)
    assert not Path("~").exists()


def test_many_readers_and_writers_see_whole_entries_only(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys
        from sqtune.train.stage_store import StageStore
        store = StageStore({str(tmp_path)!r}, 300_000)
        for turn in range(150):
            for number in range(6):
                store.put(f"{{number:064d}}", bytes([turn % 256]) * 50_000)
                found = store.get(f"{{number:064d}}")
                assert found is None or found == found[:1] * 50_000
                store.entries()
        """
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert not list(tmp_path.glob(f"*{PARTIAL}"))


def test_a_url_is_not_asked_whether_what_was_just_trained_is_there(tmp_path):
    folder, url = StageStore(tmp_path, GIB), StageStore(f"memory://{tmp_path}", GIB)
    for store in (folder, url):
        assert store.wants(key(1))
        store.put(key(1), b"one")
        store.finish(5)
    assert not folder.wants(key(1))
    url._later._files = None  # whoever asks fails
    assert url.wants(key(1))
