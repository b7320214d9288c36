"""The order of the files: the longest first, so that two workers end together; a real browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A shell in which `sqtune` is this one.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# Debian's, not a downloaded one.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# With real processes: minutes each. The others take seconds and fill up what is left.
LONGEST = (
    "tests/search/test_crashes.py",
    "tests/search/test_search.py",
    "tests/search/test_cluster.py",
    "tests/docs/test_commands_run.py",
    "tests/docs/test_tutorial.py",
    "tests/api/test_search_call.py",
    "tests/tracking/test_search_outage.py",
    "tests/tracking/test_outage.py",
    "tests/search/test_early_stopping.py",
    "tests/train/test_sharing.py",
    "tests/train/test_compute.py",
    "tests/train/test_stage_trouble.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.location[0], len(LONGEST)))  # it is stable
    for item in items:
        # Tracing doubles the time of the many examples of a law; other tests take the same lines.
        if getattr(getattr(item, "function", None), "is_hypothesis_test", False):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a browser; skip where it or Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs make test-browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # root has no sandbox of Chromium's, and a container little shared memory
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()
