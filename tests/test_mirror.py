"""A store under a URL: every machine sees what others shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqtune.errors import StoreError, WriteError
from sqtune.store import Store


@pytest.fixture
def url(tmp_path) -> str:
    return f"memory://{tmp_path}/store"  # a name of its own in this process's memory


@pytest.fixture
def here(url, tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    return Store.at(url)


@pytest.fixture
def there(url, here, tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    return Store.at(f"{url}/")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def network(store: Store, text: str) -> Path:
    folder = store.network("a study", 3)
    for name in ("weights", "network.json", "a"):
        write(folder / name, f"{name} {text}")
    return folder


def test_two_machines_have_a_mirror_each_and_one_place(here, there, url):
    assert here.place == there.place == url
    assert here.root != there.root
    assert not here.root.exists()
    here.reach()
    here.create()
    assert here.root.is_dir()
    assert here.stages == f"{url}/stages"


def test_a_shared_file_is_fetched_by_its_name(here, there):
    path = write(here.data / "digits", "images")
    assert not there.fetch(there.data / "digits")
    here.share(path)
    assert there.fetch(there.root / here.name(path))
    assert (there.data / "digits").read_text() == "images"
    assert not there.fetch(there.data / "others")
    assert there.size(there.data) == len("images")
    assert [each.name for each in there.data.iterdir()] == ["digits"]


def test_a_log_grows_and_the_longer_one_counts(here, there):
    log = here.log("a study", 3)
    here.share(write(log, "first leg\n"))
    other = there.log("a study", 3)
    assert there.fetch(other, newest=True)
    there.share(write(other, "first leg\nsecond leg\n"))
    assert here.fetch(log)
    assert log.read_text() == "first leg\n", "it was here already"
    assert here.fetch(log, newest=True)
    assert log.read_text() == "first leg\nsecond leg\n"
    write(log, "first leg\nsecond leg\nthird leg, not shared yet\n")
    assert here.fetch(log, newest=True)
    assert "third leg" in log.read_text()


def test_a_network_is_fetched_whole_and_anew_when_it_was_trained_again(here, there):
    here.share(network(here, "first"))
    folder = there.network("a study", 3)
    assert there.fetch(folder)
    assert sorted(path.read_text() for path in folder.iterdir()) == [
        "a first",
        "network.json first",
        "weights first",
    ]
    (folder / "weights").unlink()
    assert there.fetch(folder)
    assert not (folder / "weights").exists(), "nothing has changed there"
    write(folder / "left over", "first")
    here.share(network(here, "second"))
    assert there.fetch(folder)
    assert {path.read_text().split()[-1] for path in folder.iterdir()} == {"second"}
    there.forget(folder)
    assert not folder.exists()
    assert there.fetch(folder / "weights")
    assert not (folder / "a").exists()


def test_a_network_s_description_is_shared_last(here, url, monkeypatch):
    from sqtune.files import RemoteFiles

    shared, upload = [], RemoteFiles.upload
    monkeypatch.setattr(
        RemoteFiles,
        "upload",
        lambda files, path, name: (upload(files, path, name), shared.append(path.name)),
    )
    here.share(network(here, "first"))
    assert len(shared) == 3
    assert shared[-1] == "network.json"


def test_a_folder_needs_no_mirror(tmp_path):
    store = Store.at(tmp_path / "store")
    store.reach()
    path = write(store.data / "digits", "images")
    store.share(path)
    assert store.fetch(path)
    assert not store.fetch(store.data / "others")
    folder = network(store, "first")
    store.forget(folder)
    assert store.fetch(folder)
    assert (store.place, store.stages) == (str(store.root), f"{store.root}/stages")
    assert store.size(store.data) == len("images")


def test_databases_cannot_lie_under_a_url(here):
    with pytest.raises(StoreError, match="--study-storage"):
        _ = here.journal
    with pytest.raises(StoreError, match="--tracking-uri"):
        _ = here.tracking_uri


@pytest.mark.parametrize("url", ["nope://x/y", "s3a-nope://bucket"])
def test_a_url_that_nothing_here_knows_is_refused(url):
    with pytest.raises(StoreError, match=f"--store {url} cannot be opened"):
        Store.at(url)


def test_a_url_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("no folder can be made here")
    store = Store.at(f"local://{tmp_path}/file/store")
    with pytest.raises(StoreError, match="cannot be written"):
        store.reach()
    with pytest.raises(WriteError, match="give the same command again"):
        store.share(write(store.data / "digits", "images"), 0.1)
