"""Small networks with batch norm that has seen something, for everything that is exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sqtune.data.batches import Normalize
from sqtune.deploy.graph import Graph, Grid
from sqtune.deploy.lower import Trained, lower
from sqtune.networks import Network, ResNet, build
from sqtune.quant import Activations, Exponential, LayerRule, Quantizer, StochasticQuantization

MEAN, STD = 0.4, 0.3


def images(num: int, shape: tuple[int, int, int] = (3, 12, 12), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, *shape), dtype=torch.uint8, generator=generator)


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics and factors as after training, some of them negative."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(-0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.3, 0.3, generator=generator)
    return model.eval()


def trained(
    model: nn.Module,
    quantizer: Quantizer,
    *,
    shape: tuple[int, int, int] = (3, 12, 12),
    activations: Activations | None = None,
    rules: tuple[LayerRule, ...] = (),
) -> tuple[Trained, Tensor]:
    """Return what `lower` takes, and the trained network's logits of `images(16, shape)`."""
    guest = StochasticQuantization(
        model, quantizer, Exponential(), rules=rules, activations=activations
    )
    mean, std = (MEAN,) * shape[0], (STD,) * shape[0]
    inputs = Normalize(mean, std, torch.device("cpu"))
    with torch.no_grad(), guest.quantized():
        logits = model(inputs(images(16, shape)))
    grids = {}
    for name, layer in guest.state_dict()["activations"].get("layers", {}).items():
        low, top = int(layer["low"]), int(layer["top"])
        learned = layer["learned"].float()
        step = learned / top if activations.clipping == "pact" else learned
        grids[name] = Grid((top - low).bit_length(), low, top, float(step))
    classes = tuple(f"class {index}" for index in range(logits.shape[1]))
    about = (guest.codes(), guest.quantizers, grids, classes, shape, mean, std)
    return Trained(model, *about), logits


def small_graph(
    quantizer: Quantizer,
    network: Network | None = None,
    *,
    shape: tuple[int, int, int] = (3, 12, 12),
    activations: Activations | None = None,
    rules: tuple[LayerRule, ...] = (),
    num_classes: int = 5,
) -> tuple[Graph, Tensor]:
    """Return a small network's graph, and the trained network's logits of `images(16, shape)`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(network or ResNet("resnet8", 4), shape[0], num_classes, shape[1:])
    what, logits = trained(
        with_statistics(model), quantizer, shape=shape, activations=activations, rules=rules
    )
    return lower(what), logits
