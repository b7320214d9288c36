"""One thread (two shared cores) and one hypothesis profile: the same examples at each run."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws",
    deadline=None,  # the cores are shared: time is no law
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("laws")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New layers get the same weights at each run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
