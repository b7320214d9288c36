"""What `sqtune doctor` finds of GPUs: the driver, torch, and torches that break."""

from __future__ import annotations

import os
import sys

import pytest

from sqtune.doctor import gpu

DRIVER = """#!{python}
import sys
print("NVIDIA H200, 143771 MiB, 570.1")
"""
SEEN = {"version": "2.15.0", "cuda": "13.0", "gpus": []}
CARD = {"name": "NVIDIA H200", "free": 2**37, "total": 2**37, "problem": None}


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (SEEN, "note", "torch sees none"),
        ({**SEEN, "gpus": [CARD]}, "ok", "128.0 of 128.0 GiB free, driver 570.1"),
        ({**SEEN, "gpus": [{**CARD, "problem": "no kernel"}]}, "problem", "cannot compute on it"),
    ],
)
def test_a_gpu_that_the_driver_shows(tmp_path, monkeypatch, seen, state, words):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(DRIVER.format(python=sys.executable))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_torch", lambda: seen)
    found = gpu.look_at_gpus()[1]
    assert (found.state, words in found.text) == (state, True), found
    assert (found.remedy is None) == (state == "ok")


OLD_DRIVER = """
from types import SimpleNamespace

def fail(*args):
    raise RuntimeError("The NVIDIA driver on your system is too old\\nPlease update it")

__version__, version = "2.15.0", SimpleNamespace(cuda="13.0")
cuda = SimpleNamespace(device_count=lambda: 1, mem_get_info=fail, get_device_name=fail)
"""


@pytest.fixture
def other_torch(tmp_path, monkeypatch):
    """Return what makes the next process import a torch of this code, without a driver."""
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(gpu, "_driver", list)
    return (tmp_path / "torch.py").write_text


def test_a_driver_that_is_too_old_for_torch_is_a_problem_of_the_gpu(other_torch):
    other_torch(OLD_DRIVER)
    torch, found = gpu.look_at_gpus()
    assert (torch.state, found.subject, found.state) == ("ok", "GPU 0", "problem")
    assert found.text.endswith(
        "torch cannot compute on it: The NVIDIA driver on your system is too old"
    )
    assert found.remedy == gpu.INSTALL


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise OSError('libcudart.so.13: cannot open')", "OSError: libcudart.so.13: cannot open"),
        ("import os; os.abort()", "exit code -6"),
        ("import os; os._exit(0)", "exit code 0"),
    ],
)
def test_a_torch_that_breaks_is_a_problem_with_its_reason(other_torch, code, text):
    other_torch(code)
    [found] = gpu.look_at_gpus()
    assert (found.subject, found.state) == ("torch", "problem")
    assert text in found.text
    assert "one source" in str(found.remedy)


def test_a_torch_that_takes_long_is_a_note(other_torch, monkeypatch):
    monkeypatch.setattr(gpu, "SECONDS", 1.0)
    other_torch("import time; time.sleep(60)")
    [found] = gpu.look_at_gpus()
    assert (found.subject, found.state) == ("torch", "note")
    assert "longer than 1 s: a slow disk, or load" in found.text
    assert "nstall" not in str(found.remedy)


@pytest.mark.parametrize(
    ("cuda", "remedy"), [("13.0", "Unset CUDA_VISIBLE_DEVICES."), (None, gpu.INSTALL)]
)
def test_a_hidden_gpu_is_shown_by_a_build_for_cuda_alone(monkeypatch, cuda, remedy):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpu, "_driver", lambda: ["NVIDIA H200, 143771 MiB, driver 570.1"])
    monkeypatch.setattr(gpu, "_torch", lambda: {**SEEN, "cuda": cuda})
    assert gpu.look_at_gpus()[1].remedy == remedy
