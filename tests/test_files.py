"""Writing later and asking again: nobody waits for a server, and what it missed it gets."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import fsspec
import pytest
from filelock import FileLock
from fsspec.implementations.memory import MemoryFileSystem

from sqtune.files import LaterFiles, LocalFiles, files_at, is_url, patiently
from sqtune.files.locked import is_locked
from sqtune.store import Store


class Server(LocalFiles):
    """A folder that answers only while it is up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.up = threading.Event()
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if not self.up.is_set():
            raise ConnectionError("nobody is there")

    def write(self, name: str, content: bytes) -> None:
        self._answer()
        super().write(name, content)

    def remove(self, name: str) -> None:
        self._answer()
        super().remove(name)

    def touch(self, name: str) -> None:
        self._answer()
        super().touch(name)


@pytest.fixture
def server(tmp_path, monkeypatch) -> Server:
    monkeypatch.setattr("sqtune.files.patience.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("sqtune.files.patience.LONGEST_PAUSE_SECONDS", 0.02)
    return Server(tmp_path / "files")


def names(files: LocalFiles | LaterFiles) -> list[str]:
    return sorted(each.name for each in files.listed())


def test_what_is_written_is_seen_at_once_and_written_when_the_server_is_back(server, tmp_path):
    files = LaterFiles(server)
    begun = time.monotonic()
    files.write("a", b"one")
    files.write("b", b"two")
    files.remove("a")
    files.write("a", b"three")
    assert time.monotonic() - begun < 10
    assert (files.read("a"), files.read("b"), files.read("c")) == (b"three", b"two", None)
    assert files.existing(["a", "b", "c"]) == {"a", "b"}
    assert names(files) == ["a", "b"]
    assert files.modified_at("a") == pytest.approx(time.time(), abs=60)
    assert not (tmp_path / "files").exists()
    assert not files.finish(0.05)
    server.up.set()
    assert files.finish(10)
    assert names(server) == ["a", "b"]
    assert (server.read("a"), server.read("b")) == (b"three", b"two")
    assert files.trouble is None


def test_what_is_removed_is_gone_at_once(server):
    server.up.set()
    server.write("a", b"one")
    server.up.clear()
    files = LaterFiles(server)
    files.remove("a")
    assert files.read("a") is None
    assert files.existing(["a"]) == set()
    assert files.modified_at("a") is None
    assert names(files) == []
    server.up.set()
    assert files.finish(10)
    assert names(server) == []


def test_it_is_done_in_the_order_in_which_it_was_asked_for(server):
    done: list[str] = []
    for act in ("write", "remove"):
        before = getattr(server, act)
        setattr(
            server,
            act,
            lambda name, *more, a=act, b=before: (b(name, *more), done.append(a + name)),
        )
    files = LaterFiles(server)
    files.write("first", b"")
    files.write("stage", b"x")
    files.remove("rolling")
    files.remove("claim")
    server.up.set()
    assert files.finish(10)
    assert done == ["writefirst", "writestage", "removerolling", "removeclaim"]


def test_a_file_is_created_only_after_the_one_that_is_going_has_gone(server):
    server.up.set()
    server.write("claim", b"mine")
    server.up.clear()
    files = LaterFiles(server)
    files.remove("claim")
    threading.Timer(0.2, server.up.set).start()
    assert files.create("claim", b"again")
    assert not files.create("claim", b"twice")
    assert server.read("claim") == b"again"


def test_a_file_is_not_created_while_the_one_that_is_going_stays(server, monkeypatch):
    monkeypatch.setattr("sqtune.files.later.SETTLE_SECONDS", 0.05)
    files = LaterFiles(server)
    files.remove("claim")
    with pytest.raises(TimeoutError, match="could not be removed"):
        files.create("claim", b"again")
    server.up.set()
    assert files.finish(10)


def test_a_use_is_noted_and_is_no_file(server):
    server.up.set()
    server.write("a", b"one")
    earlier = server.modified_at("a")
    server.up.clear()
    files = LaterFiles(server)
    time.sleep(0.01)
    files.touch("a")
    assert names(files) == ["a"]
    assert files.modified_at("a") > earlier
    assert next(each.used_at for each in files.listed()) > earlier
    server.up.set()
    assert files.finish(10)
    assert names(server) == ["a"]
    assert server.modified_at("a") > earlier


def test_a_server_that_stays_away_is_given_up_and_said(server):
    files = LaterFiles(server, patience_seconds=0.1)
    files.write("a", b"one")
    assert files.finish(10)
    assert files.trouble.startswith("a after 0 s: nobody is there")
    assert server.asked > 2
    assert files.read("a") is None
    server.up.set()
    files.write("b", b"two")  # a new thread
    assert files.finish(10)
    assert names(server) == ["b"]


def test_no_more_waits_than_may(server):
    files = LaterFiles(server, most_bytes=250)
    files.write("taken up", b"")
    for number in range(5):
        files.write(f"{number}", bytes(100))
    assert names(files) == ["3", "4", "taken up"]
    assert "more than 250 bytes" in files.trouble
    server.up.set()
    assert files.finish(10)
    assert names(server) == ["3", "4", "taken up"]


def test_what_asking_again_cannot_mend_is_told_at_once():
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        patiently(refuse, 60)
    assert len(asked) == 1


def test_a_place_is_a_folder_or_a_url(tmp_path):
    assert not is_url(tmp_path)
    assert not is_url(f"file://{tmp_path}")
    assert is_url("s3://bucket/x")
    files_at(f"file://{tmp_path}/x").write("a", b"one")
    assert (tmp_path / "x" / "a").read_bytes() == b"one"


class Lister(MemoryFileSystem):
    """A file system whose lists say when files were written, as those of object stores do."""

    protocol, store, pseudo_dirs = "lister", {}, [""]
    asked = 0

    def ls(self, path, detail=True, **options):
        found = super().ls(path, detail=True, **options)
        return [
            {**info, "LastModified": self.store[info["name"]].modified}
            for info in found
            if info["type"] == "file"
        ]

    def modified(self, path):
        Lister.asked += 1
        return super().modified(path)


def test_uses_are_listed_without_asking_for_every_file():
    fsspec.register_implementation("lister", Lister, clobber=True)
    files = files_at("lister://stages")
    for name in "abc":
        files.write(name, b"one")
    time.sleep(0.01)
    files.touch("b")
    used_at = {each.name: each.used_at for each in files.listed()}
    assert Lister.asked == 0
    assert used_at == {name: files.modified_at(name) for name in "abc"}
    assert used_at["b"] > used_at["c"]


def test_nobody_writes_to_memory_while_it_is_listed(tmp_path, monkeypatch):
    """fsspec's memory looks at all files of the process one by one, and minds no threads."""
    files, listing, written = files_at(f"memory://{tmp_path}"), threading.Event(), threading.Event()
    seen = []

    def slow(self, path, detail=True, **kwargs):
        listing.set()
        seen.append(written.wait(0.2))
        return []

    def write() -> None:
        listing.wait(5)
        files.write("comes meanwhile", b"")
        written.set()

    monkeypatch.setattr(MemoryFileSystem, "ls", slow)
    writer = threading.Thread(target=write)
    writer.start()
    assert files.listed() == []
    writer.join()
    assert seen == [False]
    assert written.is_set()


def test_a_lock_is_seen_by_whoever_may_only_read_it(tmp_path):
    path = tmp_path / "study.lock"
    with FileLock(path):
        path.chmod(0o444)
        assert is_locked(path)
    assert not is_locked(path)
    assert not is_locked(tmp_path / "none.lock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_whoever_may_only_read_a_store_sees_that_a_study_is_driven():
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        with store.driven("study"):
            for path in (store.root, *store.root.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            child = os.fork()
            if child == 0:
                os.setuid(65534)  # nobody
                os._exit(7 if store.is_driven("study") else 8)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert not store.is_driven("study")
