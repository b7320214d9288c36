"""An exported folder, whole, and a copy of it for each test that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exported_folders import small_folder

from sqtune.quant import Float, LayerRule, Ternary


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    rules = (LayerRule("head", Float()),)
    return small_folder(tmp_path_factory.mktemp("whole") / "deployed", Ternary(), rules=rules)


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "deployed"))
