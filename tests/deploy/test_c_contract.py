"""The C form gives the graph's logits: every quantizer, kind of layer and bits of activations."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import torch
from c_models import STRICT, errors, library, logits, written
from other_weights import QUANTIZERS, with_quantizer
from small_networks import MEAN, STD, images, trained, with_statistics
from torch import nn
from torch.nn import functional

from sqtune.data.batches import Normalize
from sqtune.deploy.c.source import c_source
from sqtune.deploy.lower import lower
from sqtune.deploy.run import run
from sqtune.quant import Activations, Ternary

ACTIVATIONS = {"float": None} | {f"{bits} bits": Activations(bits) for bits in (8, 4, 2)}


class Kinds(nn.Module):
    """Convolutions of all kinds, a projection shortcut, linear layers; of 3 x 12 x 12 images."""

    def __init__(self):
        super().__init__()
        self.stem = _with_norm(nn.Conv2d(3, 4, 3, padding=1, bias=False))
        self.depthwise = _with_norm(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
        self.pointwise = _with_norm(nn.Conv2d(4, 6, 1, bias=False))
        self.conv1 = _with_norm(nn.Conv2d(6, 8, 3, 2, padding=1, bias=False))
        self.conv2 = _with_norm(nn.Conv2d(8, 8, 3, padding=1, bias=False))
        self.projection = _with_norm(nn.Conv2d(6, 8, 2, 2, bias=False))
        self.dilated = nn.Conv2d(8, 8, (3, 2), padding=(2, 1), dilation=(2, 1), groups=2)
        self.hidden = nn.Sequential(nn.Linear(8 * 3 * 3, 7), nn.BatchNorm1d(7))
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = functional.relu6(self.pointwise(functional.relu6(self.depthwise(x))))
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.projection(x))
        x = functional.max_pool2d(functional.relu(self.dilated(x)), 2)
        return self.head(functional.relu(self.hidden(x.flatten(1))))


def _with_norm(conv):
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


def kinds():
    """Return a network whose values are spread out: its norms have seen the images."""
    torch.manual_seed(0)
    model = with_statistics(Kinds())
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # all of the pass below
            module.reset_running_stats()
    with torch.no_grad():
        model.train()(Normalize((MEAN,) * 3, (STD,) * 3, torch.device("cpu"))(varied(64)))
    return model.eval()


def varied(num):
    """Return images of various brightness and contrast."""
    pixels = images(num).float() - 127.5
    generator = torch.Generator().manual_seed(1)
    contrast = torch.rand(num, 3, 1, 1, generator=generator)
    brightness = 255 * torch.rand(num, 3, 3, 1, generator=generator).repeat_interleave(4, dim=2)
    return (pixels * contrast + brightness).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def graphs():
    """Graphs by activations and quantizer; the trained network's own first."""
    made = {}
    for name, activations in ACTIVATIONS.items():
        what, _ = trained(kinds(), Ternary(), activations=activations)
        graph = lower(what)
        made[name, "as trained"] = graph
        for index, quantizer in enumerate(QUANTIZERS):
            made[name, str(quantizer)] = with_quantizer(graph, quantizer, index)
    return made


@pytest.fixture(scope="module")
def models(graphs, tmp_path_factory):
    sources = {
        key: c_source(graph, f"net{index}") for index, (key, graph) in enumerate(graphs.items())
    }
    return sources, library(list(sources.values()), tmp_path_factory.mktemp("c"), "-O0")


@pytest.mark.parametrize("quantizer", ["as trained", *map(str, QUANTIZERS)])
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_the_same_logits(graphs, models, activations, quantizer):
    sources, compiled = models
    pixels = varied(20)
    expected = run(graphs[activations, quantizer], pixels).numpy()
    assert len({tuple(row) for row in expected}) >= 15
    made = logits(compiled, sources[activations, quantizer], pixels)
    found = errors(made, expected)
    if activations == "float":
        assert found.max() < 1e-5
        assert (made.argmax(axis=1) == expected.argmax(axis=1)).all()
    else:  # a sum of floats that is rounded otherwise may move a code
        assert (found < 1e-6).mean() >= 0.75
        assert found.max() < 0.1
        assert (made.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("flags", [("-O2",), ("-Os",), ("-O3", "-Wconversion", "-Wno-error")])
def test_any_optimisation_gives_the_same(graphs, models, tmp_path, flags):
    sources, compiled = models
    key = ("4 bits", str(Ternary()))
    again = library([sources[key]], tmp_path, *flags, "-ffp-contract=off")
    pixels = varied(8)
    assert np.array_equal(
        logits(again, sources[key], pixels), logits(compiled, sources[key], pixels)
    )


PROGRAM = """
#include <stdio.h>
#include "{name}.h"

static const char *const classes[] = {big}_CLASS_NAMES;

int main(void)
{{
    uint8_t image[{big}_IMAGE_BYTES];
    float logits[{big}_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {{
        {name}_run(image, logits);
        fwrite(logits, sizeof logits, 1, stdout);
    }}
    return sizeof classes / sizeof *classes == {big}_CLASSES ? 0 : 1;
}}
"""


@pytest.mark.parametrize("activations", ["float", "4 bits", "2 bits"])
def test_a_program_without_undefined_behaviour(graphs, models, tmp_path, activations):
    key = (activations, str(QUANTIZERS[5]))
    source = models[0][key]
    (tmp_path / "main.c").write_text(PROGRAM.format(name=source.name, big=source.name.upper()))
    checks = "-fsanitize=address,undefined"
    command = ["gcc", *STRICT, "-O1", "-g", checks, "-fno-sanitize-recover=all", "main.c"]
    command += [*written([source], tmp_path), "-o", "program", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    pixels = varied(5)
    done = subprocess.run(
        [tmp_path / "program"], input=pixels.numpy().tobytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    made = np.frombuffer(done.stdout, np.float32).reshape(5, source.num_classes)
    assert np.median(errors(made, run(graphs[key], pixels).numpy())) < 1e-6
