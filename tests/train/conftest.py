"""The digits, and one thread (two shared cores)."""

from collections.abc import Iterator

import pytest
import torch

from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.data.split import Splits


@pytest.fixture(scope="module")
def digits() -> Splits:
    return prepare(Digits())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
