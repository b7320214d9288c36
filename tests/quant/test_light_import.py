"""The core needs torch and the standard library, nothing else; its specifications not even torch.

Each claim is proved in a process of its own, in which the other libraries cannot be imported.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
from importlib.machinery import ModuleSpec

BLOCKED = {
    "pydantic", "pydantic_core", "ray", "optuna", "mlflow", "sklearn", "torchvision", "PIL",
    "ruamel", "click", "rich", "safetensors", "filelock",
}

class Blocker:
    # Importing fails, asking whether a library is there does not: torch asks for some.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            return ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"blocked: {spec.name}")

    def exec_module(self, module):
        raise ImportError(f"blocked: {module.__name__}")

assert not BLOCKED & set(sys.modules)
sys.meta_path.insert(0, Blocker())
"""

TRAIN = """
import sqtune.quant as quant
import torch
from torch import nn

torch.set_num_threads(1)
quantizers = quant.Float(), quant.Binary(), quant.Ternary(), quant.Uniform(bits=3)
for quantizer in quantizers:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    sq = quant.StochasticQuantization(model, quantizer, quant.Exponential())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(1, 5):
        optimizer.zero_grad()
        with sq.hybrid(ratio=quant.epoch_ratio(sq.schedule, epoch, 4)):
            model(torch.ones(2, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    with sq.quantized():
        model(torch.ones(2, 1, 4, 4))
    for layer in sq.freeze().values():
        packed = quant.pack(layer.codes, quantizer)
        quant.unpack(packed, layer.codes.numel(), quantizer)
for name in quant.__all__:
    getattr(quant, name)
print("trained, with", sorted(BLOCKED & set(sys.modules)))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_training_needs_torch_and_the_standard_library_only() -> None:
    done = python(BLOCK + TRAIN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained, with []\n"


@pytest.mark.parametrize("library", ["pydantic", "ruamel.yaml", "safetensors.torch", "filelock"])
def test_a_blocked_library_cannot_be_imported(library: str) -> None:
    done = python(f"{BLOCK}\nimport {library}")
    assert done.returncode == 1
    assert "ImportError: blocked: " in done.stderr


def test_the_configuration_fails_where_the_core_does_not() -> None:
    assert python("import sqtune.config").returncode == 0
    done = python(BLOCK + "import sqtune.config")
    assert done.returncode == 1
    assert "ImportError: blocked: pydantic" in done.stderr


def test_specifications_and_schedules_need_no_torch() -> None:
    done = python("""
import sys
import typing
import sqtune.quant as quant

schedules = [kind() for kind in typing.get_args(quant.Schedule)]
assert [quant.epoch_ratio(schedule, 4, 4) for schedule in schedules] == [1.0] * 6
quant.Float(), quant.Binary(), quant.Ternary(), quant.Uniform(), quant.Selection()
assert "torch" not in sys.modules, "torch was imported"
quant.quantize_rows
assert "torch" in sys.modules, "torch is imported where it is needed"
""")
    assert done.returncode == 0, done.stderr
