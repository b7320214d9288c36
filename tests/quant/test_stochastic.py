"""The method itself: a hybrid step, the rows it takes, and what is delivered.

The reference is the method's description written down literally, weight by weight.
Shape names: O filters (rows), K weights in a row, M rows of the draw.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sqtune.quant import (
    Average,
    Binary,
    Exponential,
    Quantizer,
    Selection,
    StochasticQuantization,
    Ternary,
    Uniform,
    quantizable_weights,
    select_rows,
)

QUANTIZERS = [
    Binary(),
    Ternary(),
    Ternary(threshold="layer"),
    Ternary(threshold="row"),
    Uniform(bits=2, scale_steps=0),
    Uniform(bits=4, scale_steps=0),
]
GRANULARITIES = ("filter", "element")


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (8,), generator=generator)


# The literal reference.


def literal_rows(weight: Tensor, quantizer: Quantizer) -> list[list[float]]:
    """Quantize every row of a layer's weight, one number after the other."""
    w_OK = weight.detach().flatten(1).tolist()
    layer = [w for w_K in w_OK for w in w_K]
    centre = sum(layer) / len(layer)
    q_OK = []
    for w_K in w_OK:
        match quantizer:
            case Binary():
                a = sum(abs(w) for w in w_K) / len(w_K)
                q_OK.append([a if w >= 0 else -a for w in w_K])
            case Ternary(threshold=threshold):
                of_mean = {
                    "layer_centred": [w - centre for w in layer],
                    "layer": layer,
                    "row": w_K,
                }[threshold]
                d = 0.7 * sum(abs(w) for w in of_mean) / len(of_mean)
                kept = [abs(w) for w in w_K if abs(w) > d]
                a = sum(kept) / len(kept) if kept else 0.0
                q_OK.append([0.0 if abs(w) <= d else math.copysign(a, w) for w in w_K])
            case Uniform(bits=2):
                scale = max(abs(w) for w in w_K) / 1.5
                levels = [-1.5 * scale, -0.5 * scale, 0.5 * scale, 1.5 * scale]
                q_OK.append([min(levels, key=lambda q, w=w: abs(w - q)) for w in w_K])
            case Uniform(bits=bits):
                scale = max(abs(w) for w in w_K) / (2 ** (bits - 1) - 1)
                q_OK.append([round(w / scale) * scale for w in w_K])
    return q_OK


def literal_errors(w_MK: list[list[float]], q_MK: list[list[float]]) -> list[float]:
    return [
        sum(abs(w - q) for w, q in zip(w_K, q_K, strict=True)) / sum(abs(w) for w in w_K)
        for w_K, q_K in zip(w_MK, q_MK, strict=True)
    ]


def as_rows(w_OK: list[list[float]], granularity: str) -> list[list[float]]:
    return w_OK if granularity == "filter" else [[w] for w_K in w_OK for w in w_K]


def literal_hybrid(
    weight: Tensor, mask_M: list[bool], quantizer: Quantizer, granularity: str
) -> Tensor:
    """Take the quantized row where the mask says so, the latent one elsewhere."""
    w_MK = as_rows(weight.detach().flatten(1).tolist(), granularity)
    q_MK = as_rows(literal_rows(weight, quantizer), granularity)
    hybrid = [q if chosen else w for w, q, chosen in zip(w_MK, q_MK, mask_M, strict=True)]
    return torch.tensor(hybrid, dtype=weight.dtype).reshape(weight.shape)


def literal_sgd_step(
    weight: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float, decay: float
) -> tuple[Tensor, Tensor]:
    velocity = momentum * velocity + (gradient + decay * weight)
    return weight - lr * velocity, velocity


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


# One training step.


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_training_steps_are_their_literal_transcription(
    quantizer: Quantizer, granularity: str, momentum: float, decay: float
) -> None:
    model, twin, lr = network(), network(), 0.05
    names = list(quantizable_weights(model))
    sq = StochasticQuantization(
        model, quantizer, Average(), selection=Selection(granularity=granularity)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=decay)
    latent = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in latent.items()}
    for step, ratio in enumerate([0.0, 0.25, 0.5, 0.5, 0.75, 1.0]):
        x, y = batch(step)
        optimizer.zero_grad()
        with sq.hybrid(ratio=ratio):
            masks = sq.state_dict()["masks"]
            inside = {name: p.detach().clone() for name, p in model.named_parameters()}
            nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

        # Steps 1 to 6 of the description, with the rows that were drawn.
        hybrid = dict(latent)
        for name in names if ratio else ():
            num_rows = len(as_rows(latent[name].flatten(1).tolist(), granularity))
            assert masks[name].sum() == math.ceil(ratio * num_rows - 1e-9)
            hybrid[name] = literal_hybrid(
                latent[name], masks[name].tolist(), quantizer, granularity
            )
        for name in latent:
            close(inside[name], hybrid[name])
        # Step 7: gradient at the hybrid weights, update of the latent ones.
        leaves = {name: p.requires_grad_() for name, p in hybrid.items()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(twin, leaves, (x,)), y)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            close(parameter.grad, gradient)
            weight, velocity[name] = literal_sgd_step(
                latent[name].detach(), gradient, velocity[name], lr, momentum, decay
            )
            close(parameter.detach(), weight)
            latent[name] = parameter.detach().clone()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", ["constant", "linear", "softmax", "sigmoid", "error"])
@pytest.mark.parametrize("strategy", ["stochastic", "deterministic", "fixed"])
def test_rows_are_drawn_from_their_errors_layer_by_layer(
    strategy: str, function: str, granularity: str
) -> None:
    model, selection = network(), Selection(function, strategy, granularity)
    sq = StochasticQuantization(
        model, Binary(), selection=selection, generator=torch.Generator().manual_seed(3)
    )
    generator = torch.Generator().manual_seed(3)
    for ratio in (0.3, 0.6):
        with sq.hybrid(ratio=ratio):
            masks = sq.state_dict()["masks"]
        for name, weight in quantizable_weights(model).items():
            w_MK = as_rows(weight.flatten(1).tolist(), granularity)
            q_MK = as_rows(literal_rows(weight, Binary()), granularity)
            error_M = torch.tensor(literal_errors(w_MK, q_MK), dtype=torch.float64)
            assert torch.equal(masks[name], select_rows(error_M, ratio, selection, generator))


def test_the_schedule_turns_progress_into_the_ratio() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), Exponential(warmup=0.2))
    for progress, ratio in [(0.0, 0.0), (0.3, 0.5), (0.5, 0.75), (1.0, 1.0)]:
        with sq.hybrid(progress):
            masks = sq.state_dict()["masks"]
            assert bool(masks) == (ratio > 0)
            for mask_M in masks.values():
                assert mask_M.sum() == math.ceil(ratio * len(mask_M))


def test_without_a_schedule_everything_is_quantized_from_the_start() -> None:
    sq = StochasticQuantization(network(), Binary())
    with sq.hybrid(0.0):
        assert all(mask_M.all() for mask_M in sq.state_dict()["masks"].values())


def test_half_the_weights_of_an_element_wise_draw_lie_across_the_filters() -> None:
    linear = nn.Linear(100, 4, bias=False)
    sq = StochasticQuantization(linear, Binary(), selection=Selection(granularity="element"))
    scale_O = linear.weight.detach().abs().mean(dim=1)
    with sq.hybrid(ratio=0.5):
        quantized_OK = linear.weight.detach().abs() == scale_O[:, None]
    assert quantized_OK.sum() == 200
    assert (quantized_OK.any(dim=1) & ~quantized_OK.all(dim=1)).all()


# Which rows, from step to step.


def masks_of(sq: StochasticQuantization, ratio: float, redraw: bool = True) -> dict[str, list]:
    with sq.hybrid(ratio=ratio, redraw=redraw):
        return {name: mask_M.tolist() for name, mask_M in sq.state_dict()["masks"].items()}


def test_stochastic_draws_anew_at_each_step() -> None:
    sq = StochasticQuantization(nn.Linear(3, 40), Binary())
    masks = [masks_of(sq, 0.5) for _ in range(5)]
    assert all(one != other for one, other in pairwise(masks))


def test_fixed_keeps_its_rows_while_the_ratio_stays_and_draws_when_it_changes() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), selection=Selection(strategy="fixed"))
    first = masks_of(sq, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert all(masks_of(sq, 0.5) == first for _ in range(5))
    higher = masks_of(sq, 0.75)
    assert all(sum(higher[name]) == math.ceil(0.75 * len(higher[name])) for name in higher)
    assert masks_of(sq, 0.75) == higher


def test_a_fixed_partition_is_drawn_anew_for_a_ratio_that_comes_back() -> None:
    sq = StochasticQuantization(nn.Linear(3, 40), Binary(), selection=Selection(strategy="fixed"))
    first = masks_of(sq, 0.5)
    masks_of(sq, 0.75)
    assert masks_of(sq, 0.5) != first


def test_deterministic_follows_the_errors_and_nothing_else() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), selection=Selection(strategy="deterministic"))
    first = masks_of(sq, 0.5)
    assert masks_of(sq, 0.5) == first
    for name, weight in quantizable_weights(model).items():
        errors = literal_errors(weight.flatten(1).tolist(), literal_rows(weight, Binary()))
        smallest = sorted(range(len(errors)), key=errors.__getitem__)[: sum(first[name])]
        assert [row for row, taken in enumerate(first[name]) if taken] == sorted(smallest)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_without_a_redraw_the_rows_of_the_last_draw_are_quantized(granularity: str) -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), selection=Selection(granularity=granularity))
    drawn = masks_of(sq, 0.5)
    state = sq.generator.get_state()
    assert masks_of(sq, 0.5, redraw=False) == drawn
    assert torch.equal(sq.generator.get_state(), state)
    latent = {name: w.detach().clone() for name, w in quantizable_weights(model).items()}
    with sq.hybrid(ratio=0.5, redraw=False):
        for name, weight in quantizable_weights(model).items():
            expected = literal_hybrid(latent[name], drawn[name], Binary(), granularity)
            close(weight.detach(), expected)
    assert masks_of(sq, 0.5) != drawn


def test_the_hybrid_of_a_float_warm_up_is_float_without_a_redraw_too() -> None:
    linear = nn.Linear(3, 4)
    before = linear.weight.detach().clone()
    sq = StochasticQuantization(linear, Binary())
    masks_of(sq, 0.0)
    with sq.hybrid(ratio=0.0, redraw=False):
        assert torch.equal(linear.weight, before)


# Layers.

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "one_weight": lambda: nn.Linear(1, 1),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv2d": lambda: nn.Conv2d(4, 6, (3, 2)),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_each_output_filter_of_a_layer_is_a_row(kind: str, quantizer: Quantizer) -> None:
    layer = LAYERS[kind]()
    model = nn.Sequential(layer).double()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    sq = StochasticQuantization(model, quantizer)
    with sq.quantized():
        q_OK = torch.tensor(literal_rows(weight, quantizer), dtype=torch.float64)
        close(layer.weight.detach(), q_OK.reshape(weight.shape))
        assert torch.equal(layer.bias, bias)
    with sq.hybrid(ratio=0.5):
        mask_M = sq.state_dict()["masks"]["0.weight"]
        assert mask_M.shape == weight.shape[:1]
        close(layer.weight.detach(), literal_hybrid(weight, mask_M.tolist(), quantizer, "filter"))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_changes_neither_values_nor_itself(
    memory_format: torch.memory_format,
) -> None:
    layer = nn.Conv2d(4, 6, 3).double().to(memory_format=memory_format)
    strides, weight = layer.weight.stride(), layer.weight.detach().clone()
    sq = StochasticQuantization(layer, Binary())
    with sq.quantized():
        close(layer.weight.detach(), literal_hybrid(weight, [True] * 6, Binary(), "filter"))
        assert layer.weight.stride() == strides
    assert layer.weight.stride() == strides


def test_normalisation_and_embedding_stay_float() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert list(quantizable_weights(model)) == ["2.weight"]


# What is delivered.

DELIVERED = [*QUANTIZERS, *(Uniform(bits=bits) for bits in range(2, 9))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quantizer", DELIVERED, ids=str)
def test_frozen_codes_and_scales_are_the_weights_bit_for_bit(
    quantizer: Quantizer, dtype: torch.dtype
) -> None:
    model = network(dtype=dtype)
    sq = StochasticQuantization(model, quantizer)
    with sq.quantized():
        evaluated = {name: p.detach().clone() for name, p in model.named_parameters()}
    layers = sq.freeze()
    weights = quantizable_weights(model)
    assert list(layers) == list(weights) == ["0.weight", "4.weight", "6.weight"]
    for name, layer in layers.items():
        assert layer.codes.dtype == torch.int8
        assert layer.codes.shape == weights[name].shape
        scales = layer.scale_O.reshape(-1, *[1] * (layer.codes.dim() - 1))
        rebuilt = (layer.codes.to(dtype) + layer.offset) * scales
        assert torch.equal(rebuilt, weights[name])
        assert torch.equal(layer.values(), weights[name])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, evaluated[name])


def test_frozen_weights_stay_quantized() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=0.5):
        pass
    layers = sq.freeze()
    for _ in range(2):
        with sq.quantized():
            pass
        for name, weight in quantizable_weights(model).items():
            assert torch.equal(weight, layers[name].values())


def test_frozen_layers_do_not_follow_the_model_afterwards() -> None:
    linear = nn.Linear(3, 2)
    layers = StochasticQuantization(linear, Binary()).freeze()
    values = layers["weight"].values()
    with torch.no_grad():
        linear.weight.zero_()
    assert torch.equal(layers["weight"].values(), values)
