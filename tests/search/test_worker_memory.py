"""What a worker tells of its memory is what the machine says."""

from __future__ import annotations

import mmap

import psutil
import pytest
import torch

from sqtune.search.worker_memory import memory_taken


def test_resident_memory_is_what_the_system_says():
    ballast = mmap.mmap(-1, 200_000_000)  # no allocator keeps it
    ballast.write(b"1" * 200_000_000)
    taken = memory_taken("cpu")
    assert set(taken) == {"resident_bytes"}
    assert taken["resident_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    before = taken["resident_bytes"]
    ballast.close()
    assert memory_taken("cpu")["resident_bytes"] < before - 150_000_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpus_memory_is_what_torch_has_reserved_of_it():
    ballast = torch.ones(50_000_000, device="cuda")
    taken = memory_taken("cuda")
    assert ballast.nbytes <= taken["gpu_bytes"] < taken["gpu_total_bytes"]
    assert taken["gpu_bytes"] == torch.cuda.memory_reserved()
