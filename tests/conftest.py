"""The order of the files: the longest first, so that two workers end together."""

from __future__ import annotations

import pytest

# Searches with real processes: minutes each. The rest is seconds and fills up what is left.
LONGEST = (
    "tests/search/test_crashes.py",
    "tests/search/test_search.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.location[0], len(LONGEST)))  # it is stable
