"""The same check on the oldest ONNX Runtime: `make test-old-runtime` makes its environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from exported_folders import MODEL, reseal, small_folder

import sqtune
from sqtune.quant import Binary, Float, LayerRule, Ternary, Uniform

OLD = os.environ.get("SQTUNE_OLD_RUNTIME", "")
pytestmark = pytest.mark.skipif(not OLD, reason="make test-old-runtime runs it")

ROOT = Path(sqtune.__file__).parents[1]
MIXED = (LayerRule("group1", Uniform(bits=4)), LayerRule("head", Float()))


def check(folder):
    command = [str(ROOT / OLD), "-m", "sqtune.deploy.checking", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("rules", [(), MIXED], ids=["one", "mixed"])
@pytest.mark.parametrize(
    "quantizer", [Float(), Binary(), Ternary(), *(Uniform(bits=b) for b in range(2, 9))], ids=str
)
def test_packed_files_on_the_oldest_runtime(tmp_path, quantizer, rules):
    code, text = check(small_folder(tmp_path / "deployed", quantizer, rules=rules))
    assert code == 0, text
    assert "ONNX Runtime 1.16.3; the oldest that suits is 1.16.3" in text
    assert text.count("16 of 16 classes equal, 0 ties") == 2


@pytest.mark.parametrize("quantizer", [Binary(), Uniform(bits=4)], ids=str)
def test_native_files_need_a_newer_one(tmp_path, quantizer):
    code, text = check(small_folder(tmp_path / "deployed", quantizer, "native"))
    assert code == 2
    assert "or newer, 1.16.3 is installed" in text
    assert "weights " not in text


def test_hidden_damage_on_the_oldest_runtime(tmp_path):
    folder = small_folder(tmp_path / "deployed", Ternary())
    data = (folder / MODEL).read_bytes()
    for place in range(40, len(data), len(data) // 12):
        (folder / MODEL).write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        reseal(folder)
        code, text = check(folder)
        assert code in (0, 1), text
    (folder / MODEL).write_bytes(data[:-40])
    assert check(folder)[0] == 1
