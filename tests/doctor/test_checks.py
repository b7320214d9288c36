"""What `sqtune doctor` finds, of what is fine and of what is not."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from sqtune.doctor import Check, Finding, examine, machine, packages, places, ray
from sqtune.errors import StoreError, TrackingError


def written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "groups", "quota"),
    [
        ({}, {}, None),
        ({"cpu.max": "max 100000"}, {"": "/"}, None),
        ({"cpu.max": "150000 100000"}, {"": "/"}, 1.5),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, {"": "/a/b"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, {"cpu": "/"}, None),
        ({"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "1000"}, {"cpu": "/x"}, 50),
    ],
)
def test_what_a_container_leaves_of_the_cpus(tmp_path, files, groups, quota):
    assert machine.cpu_quota(written(tmp_path, files), groups) == quota


@pytest.mark.parametrize(
    ("files", "groups", "limit"),
    [
        ({}, {"": "/"}, None),
        ({"memory.max": "max", "memory.current": "5"}, {"": "/"}, None),
        ({"g/memory.max": "1000", "g/memory.current": "400"}, {"": "/g"}, (1000, 400)),
        (
            {"memory/g/memory.limit_in_bytes": "9", "memory/g/memory.usage_in_bytes": "4"},
            {"memory": "/g"},
            (9, 4),
        ),
        (
            {
                "memory.max": "1000",
                "memory.current": "990",
                "memory.stat": "anon 90\ninactive_file 900\nactive_file 8\n",
            },
            {"": "/"},
            (1000, 90),
        ),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "990",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 700",
            },
            {"memory": "/"},
            (1000, 290),
        ),
        (
            {
                **{"memory.max": "8000", "memory.current": "7900"},
                **{"g/memory.max": "4000", "g/memory.current": "100"},
            },
            {"": "/g"},
            (8000, 7900),
        ),
    ],
)
def test_what_a_container_leaves_of_the_memory(tmp_path, files, groups, limit):
    assert machine.memory_limit(written(tmp_path, files), groups) == limit


def test_cpus_and_memory_that_a_container_limits_name_a_number_of_trials(tmp_path, monkeypatch):
    files = {"cpu.max": "50000 100000", "memory.max": str(2**30), "memory.current": str(2**29)}
    # The limits of a container are the kernel's: files as it writes them, in another folder.
    monkeypatch.setattr(machine, "CGROUPS", written(tmp_path, files))
    [cpus], [memory] = machine.look_at_cpus(), machine.look_at_memory()
    assert (cpus.state, memory.state) == ("note", "note")
    assert "the time of 0.5" in cpus.text
    assert cpus.remedy is not None
    assert cpus.remedy.startswith("Give --concurrent 1")
    assert "0.5 GiB of the container's 1.0 GiB free" in memory.text


@pytest.mark.parametrize(
    ("free", "state"), [(50 * 2**20, "problem"), (500 * 2**20, "note"), (50 * 2**30, "ok")]
)
def test_a_full_disk_is_told_before_a_search_meets_it(tmp_path, monkeypatch, free, state):
    usage = SimpleNamespace(total=100 * 2**30, used=0, free=free)
    # A test cannot fill the disk of the machine that it runs on.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    disk = machine.look_at_disks(str(tmp_path / "not" / "there"))[0]
    assert disk.state == state
    assert str(tmp_path) in disk.text
    assert "not" not in disk.text
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(tmp_path) in machine.look_at_disks("s3://bucket/store")[0].text


def test_versions_that_are_not_those_asked_for():
    assert packages._problem(Requirement("torch>=2")) is None
    assert "is not >=99" in str(packages._problem(Requirement("torch>=99")))
    assert "not installed" in str(packages._problem(Requirement("no-such-package>=1")))
    assert list(packages._missing(Requirement("ray[tune]"))) == []
    assert list(packages._missing(Requirement("no-such-package"))) == ["no-such-package"]


METADATA = """Metadata-Version: 2.1
Name: sqtune
Version: 0
Requires-Python: >=99
Provides-Extra: cluster
Requires-Dist: click>=99
Requires-Dist: no-such-package>=1; extra == "cluster"
"""


def test_what_the_installed_sqtune_asks_for_is_looked_at(tmp_path, monkeypatch):
    written(tmp_path, {"sqtune-0.dist-info/METADATA": METADATA})
    monkeypatch.syspath_prepend(tmp_path)
    [python] = packages.look_at_python()
    assert (python.state, python.remedy) == ("problem", "Make an environment with Python >=99.")
    own, wrong = packages.look_at_versions()
    assert (own.state, wrong.state) == ("ok", "problem")
    assert wrong.text.endswith("is not >=99")
    extras = {each.subject: each for each in packages.look_at_extras()}
    assert [each.state for each in extras.values()] == ["note", "ok", "ok"]
    assert "not installed (no-such-package)" in extras["[cluster]"].text
    assert extras["[cluster]"].remedy == "Where you need it: pip install 'sqtune[cluster]'."


def test_this_python_is_one_that_sqtune_asks_for():
    [python] = packages.look_at_python()
    assert (python.state, python.remedy) == ("ok", None)


def test_what_the_lock_file_has_in_another_version(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("click==0.1\nno-such-package==3\n# torch==0\n")
    [other] = packages._other_than_locked(lock)
    assert other.startswith("click 8")
    assert other.endswith("(0.1)")
    assert list(packages._other_than_locked(tmp_path / "none")) == []


def test_a_module_that_cannot_be_imported_is_named_with_its_reason(tmp_path, monkeypatch):
    for name in ("broken_module", "torchvision"):
        (tmp_path / f"{name}.py").write_text("raise OSError('libcudart.so.12: cannot open')")
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken = packages._import_problem("broken_module")
    reason = "broken_module cannot be imported: OSError: libcudart.so.12: cannot open"
    assert broken is not None
    assert (broken.state, broken.text) == ("problem", reason)
    assert "--force-reinstall broken_module" in str(broken.remedy)
    assert "torch and torchvision" in str(packages._import_problem("torchvision"))
    assert packages._import_problem("json") is None
    # A shorter wait; the module is real and slow.
    monkeypatch.setattr(packages, "IMPORT_SECONDS", 0.3)
    slow = packages._import_problem("slow_module")
    assert slow is not None
    assert (slow.state, "nstall" in str(slow.remedy)) == ("note", False)


def test_a_store_is_written_to_and_locked_and_left_as_it_was(tmp_path):
    [found] = places.look_at_store(str(tmp_path / "store"))
    assert found.state == "ok"
    assert "is made by the first search" in found.text
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="Give --store another"):
        places.look_at_store(str(tmp_path / "file" / "store"))


class Unlocked:
    """A lock on a file system that has none: everybody gets it."""

    def __init__(self, path: Path, **_: object) -> None:
        del path

    def acquire(self, timeout: float) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_store_whose_files_cannot_be_locked_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert "Not a directory" in str(places._lock_problem(tmp_path / "file" / "folder"))
    # A file server that grants every lock to everybody: no local file system does.
    monkeypatch.setattr(places, "FileLock", Unlocked)
    [found] = places.look_at_store(str(tmp_path / "store"))
    assert found.state == "problem"
    assert found.text.endswith("cannot be locked there: two processes get the same lock")
    assert "mount it with locks" in str(found.remedy)


def test_a_study_storage_is_asked_and_not_made(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    [found] = places.look_at_study_storage(url)
    assert "a file that the first search makes" in found.text
    assert list(tmp_path.iterdir()) == []
    from sqtune.search.storage import open_named

    open_named(url).engine.dispose()
    [found] = places.look_at_study_storage(url)
    assert "0 studies" in found.text
    with pytest.raises(StoreError, match="leave --study-storage out") as caught:
        places.look_at_study_storage("nonsense://me:hidden@host/db")
    assert "hidden" not in str(caught.value)


def test_a_tracking_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://me:hidden@127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(TrackingError, match="--offline") as caught:
        places.look_at_tracking(uri)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:///{}/mlflow.db?timeout=30", "file://{}", "file:{}", "{}"])
def test_a_tracking_store_of_files_is_written_to_and_left_as_it_was(tmp_path, uri):
    [found] = places.look_at_tracking(uri.format(tmp_path / "new" / "er"))
    assert found.state == "ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match=r"/file cannot be written: Not a directory\. Give"):
        places.look_at_tracking(uri.format(tmp_path / "file" / "er"))


def test_databricks_is_a_server_and_no_folder():
    with pytest.raises(TrackingError, match="does not answer"):
        places.look_at_tracking("databricks")


def test_settings_say_where_they_come_from_and_hide_passwords():
    given = {
        "store": ("here", "by default"),
        "study_storage": ("postgresql://me:hidden@db/s", "as typed"),
        "tracking_uri": ("http://me:hidden@host", "from SQTUNE_TRACKING_URI"),
        "address": (None, "by default"),
    }
    found = places.look_at_settings(given)
    assert "hidden" not in str(found)
    assert [each.state for each in found] == ["ok", "ok", "note", "ok"]
    assert found[3].text == "tracking uri: http://me:***@host (from SQTUNE_TRACKING_URI)"


def test_a_port_that_somebody_listens_on_is_told(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # The socket is real; Ray's own ports may be taken, by other tests even.
        monkeypatch.setattr(places, "RAY_PORTS", {port: "a Ray head"})
        [found] = places.look_at_ports()
    assert f"something listens on {port}, perhaps a Ray head" in found.text


def test_a_ray_that_does_not_start_is_a_problem_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "ray.py").write_text("raise OSError('no room in /dev/shm')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    [found] = ray.look_at_ray()
    assert (found.subject, found.state) == ("Ray", "problem")
    assert found.text == "it does not start: OSError: no room in /dev/shm"
    (tmp_path / "ray.py").write_text("import time; time.sleep(60)")
    # A shorter wait.
    monkeypatch.setattr(ray, "START_SECONDS", 0.5)
    [found] = ray.look_at_ray()
    assert (found.state, found.text) == ("problem", "it does not start within 0.5 s")


def test_checks_run_side_by_side_and_none_ends_the_others():
    def hang() -> list[Finding]:
        time.sleep(60)
        return []

    def refuse() -> list[Finding]:
        raise StoreError("no store. Give one.")

    def fail() -> list[Finding]:
        raise KeyError("surprise")

    begun = time.monotonic()
    checks = [Check("slow", hang, 0.3), Check("store", refuse), Check("other", fail)]
    checks += [Check("ports", fail, otherwise="note")]
    found = list(examine([*checks, Check("fine", lambda: [Finding("fine", "ok", "all")])]))
    assert time.monotonic() - begun < 40
    assert [each.state for each in found] == ["problem", "problem", "problem", "note", "ok"]
    assert "within 0.3 s" in found[0].text
    assert found[1].text == "no store. Give one."
    assert "KeyError: 'surprise'" in found[2].text
