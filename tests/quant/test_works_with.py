"""The guest in other people's loops: copies, accumulation, averages, compilation, all layers."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Activations,
    Binary,
    Float,
    LayerRule,
    LearnedUniform,
    Selection,
    StochasticQuantization,
    Ternary,
    quantizable_weights,
    quantize_rows,
)
from sqtune.quant.layers import from_rows, to_rows


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )


def batch(seed: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 2, 6, 6, generator=generator)
    return x, torch.randint(4, (size,), generator=generator)


def backward(model: nn.Module, seed: int) -> Tensor:
    x, y = batch(seed)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.detach()


# Copies.


def test_a_copy_of_model_and_guest_goes_on_alike_and_alone() -> None:
    model = network()
    sq = StochasticQuantization(
        model, LearnedUniform(bits=3), activations=Activations(bits=4), selection=Selection("error")
    )
    with sq.hybrid(ratio=0.5):
        backward(model, 0)
    twin, twin_sq = copy.deepcopy((model, sq))
    again, again_sq = pickle.loads(pickle.dumps((model, sq)))
    for one, one_sq in ((model, sq), (twin, twin_sq), (again, again_sq)):
        for parameter in (*one.parameters(), *one_sq.parameters()):
            parameter.grad = None  # torch's copies have none
        with one_sq.hybrid(ratio=0.5):
            backward(one, 1)
    for other, other_sq in ((twin, twin_sq), (again, again_sq)):
        assert all(
            torch.equal(p.grad, q.grad)
            for p, q in zip(model.parameters(), other.parameters(), strict=True)
        )
        assert all(
            torch.equal(p.grad, q.grad)
            for p, q in zip(sq.parameters(), other_sq.parameters(), strict=True)
        )
        before = [p.detach().clone() for p in model.parameters()]
        other_sq.freeze()
        assert all(map(torch.equal, model.parameters(), before))


# Accumulation and clipping of gradients, averages of weights.


def test_accumulated_gradients_are_the_sum_of_each_block_s() -> None:
    model, alone = network(), network()
    sq, alone_sq = (StochasticQuantization(m, Ternary()) for m in (model, alone))
    total: list[Tensor] = [torch.zeros_like(p) for p in model.parameters()]
    for seed in range(3):
        with sq.hybrid(ratio=0.5):
            backward(model, seed)
        alone.zero_grad()
        with alone_sq.hybrid(ratio=0.5):
            backward(alone, seed)
        total = [t + p.grad for t, p in zip(total, alone.parameters(), strict=True)]
    for parameter, expected in zip(model.parameters(), total, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_clipped_gradients_update_the_latent_weights() -> None:
    model = network()
    sq = StochasticQuantization(model, LearnedUniform(bits=4))
    parameters = [*model.parameters(), *sq.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    before = [p.detach().clone() for p in parameters]
    with sq.hybrid(ratio=0.5):
        backward(model, 0)
    before[-2:] = [p.detach().clone() for p in sq.parameters()]  # they start at the first block
    nn.utils.clip_grad_norm_(parameters, 0.01)
    optimizer.step()
    moved = math.sqrt(
        sum(float((p.detach() - b).square().sum()) for p, b in zip(parameters, before, strict=True))
    )
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_an_average_of_the_latent_weights_can_be_quantized() -> None:
    model = network()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    sq = StochasticQuantization(model, Binary())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = [p.detach().clone() for p in model.parameters()]
    for seed in range(4):
        optimizer.zero_grad()
        with sq.hybrid(ratio=0.5):
            backward(model, seed)
        optimizer.step()
        average.update_parameters(model)
        pairs = zip(expected, model.parameters(), strict=True)
        expected = [p.detach().clone() if seed == 0 else e.lerp(p.detach(), 0.5) for e, p in pairs]
    for parameter, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)
    of_average = StochasticQuantization(average.module, Binary())
    with of_average.quantized():
        assert len(average.module[4].weight[0].unique()) == 2


# Compilation.


@pytest.mark.timeout(280)
def test_a_compiled_model_is_one_graph_and_sees_the_hybrid_weights() -> None:
    model = network().eval()
    sq = StochasticQuantization(model, LearnedUniform(bits=3), activations=Activations(bits=4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of itself
        with sq.hybrid(ratio=1.0):
            model(batch(9)[0])  # clipping points start
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        x, y = batch(0)
        for ratio in (0.5, 0.75, 1.0):
            with sq.hybrid(ratio=ratio):
                model.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                expected = [p.grad.clone() for p in model.parameters()]
                model.zero_grad()
                nn.functional.cross_entropy(compiled(x), y).backward()
                for parameter, gradient in zip(model.parameters(), expected, strict=True):
                    torch.testing.assert_close(parameter.grad, gradient)
        with sq.quantized():
            torch.testing.assert_close(compiled(x), model(x))
        torch.testing.assert_close(compiled(x), model(x))


# Layers: rows are output channels, however a weight lies in memory.

LAYERS = {
    "conv3d": lambda: nn.Conv3d(2, 6, (1, 2, 3)),
    "conv3d_channels_last": lambda: nn.Conv3d(2, 6, 2).to(memory_format=torch.channels_last_3d),
    "transposed1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "transposed2d": lambda: nn.ConvTranspose2d(4, 6, 3),
    "transposed2d_groups": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed3d_depthwise": lambda: nn.ConvTranspose3d(4, 4, 2, groups=4),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "depthwise_channels_last": lambda: nn.Conv2d(6, 6, 3, groups=6).to(
        memory_format=torch.channels_last
    ),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "linear_of_one": lambda: nn.Linear(1, 1),
}


def channel(layer: nn.Module, index: int) -> Tensor:
    """Return the weights that an output channel is made of, found without knowing the layout."""
    weight = torch.zeros_like(layer.weight, requires_grad=True)
    dimensions = layer.weight.dim() - 2
    x = torch.ones(1, getattr(layer, "in_channels", 1), *[5] * dimensions)
    y = torch.func.functional_call(layer, {"weight": weight}, (x,))
    y[0, index].sum().backward()
    return layer.weight.detach()[weight.grad != 0]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_a_row_is_all_that_an_output_channel_is_made_of(kind: str, step: str) -> None:
    layer = LAYERS[kind]()
    strides = layer.weight.stride()
    sq = StochasticQuantization(nn.Sequential(layer), Binary(), step=step)
    num_channels = layer.bias.numel()
    scales = [channel(layer, index).abs().mean() for index in range(num_channels)]
    with sq.quantized():
        for index, scale in enumerate(scales):
            torch.testing.assert_close(
                channel(layer, index).abs(), scale.expand(channel(layer, index).shape)
            )
    with sq.hybrid(ratio=0.5):
        mask_O = sq.state_dict()["masks"]["0.weight"]
        assert len(mask_O) == num_channels
        for index, taken in enumerate(mask_O):
            is_binary = len(channel(layer, index).abs().unique()) == 1
            assert is_binary == (bool(taken) or channel(layer, index).numel() == 1)
    assert layer.weight.stride() == strides
    frozen = sq.freeze()["0.weight"]
    assert torch.equal(frozen.values(), layer.weight)
    torch.testing.assert_close(frozen.scale_O, torch.stack(scales))
    assert frozen.codes.shape == layer.weight.shape


@pytest.mark.parametrize("kind", LAYERS)
def test_rows_there_and_back_are_the_weight(kind: str) -> None:
    layer = LAYERS[kind]()
    groups = layer.groups if "transposed" in kind else 0
    rows_OK = to_rows(layer.weight.detach(), groups)
    assert rows_OK.shape == (layer.bias.numel(), layer.weight.numel() // layer.bias.numel())
    back = from_rows(rows_OK, layer.weight, groups)
    assert torch.equal(back, layer.weight)
    assert back.stride() == layer.weight.stride()


def test_rows_of_common_layouts_are_views() -> None:
    for layer in (nn.Conv2d(4, 6, 3), nn.Linear(5, 3)):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            weight = layer.weight.detach()
            if weight.dim() == 4:
                weight = weight.to(memory_format=memory_format)
            assert to_rows(weight).data_ptr() == weight.data_ptr()


def test_a_layer_that_appears_twice_is_quantized_once_and_takes_both_gradients() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=8))
    assert list(sq.quantizers) == ["0.weight"]
    x = torch.randn(3, 4)
    with sq.hybrid(ratio=1.0):
        model(x).sum().backward()
        q_OK = shared.weight.detach().clone()
    assert torch.equal(q_OK, quantize_rows(shared.weight.detach(), Binary()).values())
    assert shared.weight.grad.abs().sum() > 0


def test_a_frozen_weight_is_quantized_and_the_others_get_the_same_gradients() -> None:
    model, free = network(), network()
    model[0].weight.requires_grad_(False)
    for one in (model, free):
        with StochasticQuantization(one, Binary()).hybrid(ratio=0.5):
            backward(one, 0)
    assert model[0].weight.grad is None
    assert torch.equal(model[4].weight.grad, free[4].weight.grad)


# What cannot be done is an error that names the layer.


def test_a_parametrized_weight_is_an_error_that_names_the_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(QuantizationError, match=r"1: its weight is computed at each use"):
        StochasticQuantization(model, Binary())


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(
    value: float, step: str
) -> None:
    model = network()
    sq = StochasticQuantization(model, Ternary(), step=step)
    with torch.no_grad():
        model[4].weight[2, 5] = value
    before = model[4].weight.detach().clone()
    for block in (lambda: sq.hybrid(ratio=0.5), sq.quantized):
        with pytest.raises(QuantizationError, match=r"4\.weight holds 1 .* diverged"), block():
            pass
        torch.testing.assert_close(model[4].weight.detach(), before, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(QuantizationError, match=r"4\.weight"):
        sq.freeze()
    with torch.no_grad():
        model[4].weight[2, 5] = 0.0
    with sq.hybrid(ratio=0.5):  # and it goes on once they are finite again
        pass


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_weights_whose_sum_is_infinite_are_an_error(step: str) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    sq = StochasticQuantization(model, Binary(), step=step)
    message = r"0\.weight holds weights up to 3e\+38"
    with pytest.raises(QuantizationError, match=message), sq.hybrid(ratio=0.5):
        pass


def test_a_complex_or_empty_weight_is_an_error_with_the_remedy() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, dtype=torch.complex64))
    with pytest.raises(QuantizationError, match=r"1: a weight of type torch.complex64.*LayerRule"):
        StochasticQuantization(model, Binary())
    StochasticQuantization(model, Binary(), rules=[LayerRule("1", Float())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of initialising nothing
        empty = nn.Sequential(nn.Linear(0, 3))
    with pytest.raises(QuantizationError, match=r"0: a weight of type .* shape \(3, 0\)"):
        StochasticQuantization(empty, Binary())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([LayerRule("stem", Float())], "'stem' matches no layer. The layers are: 0, 4"),
        (
            [LayerRule("0|4", Binary()), LayerRule("4", Float())],
            "'4' matches 4: an earlier rule has it already",
        ),
    ],
)
def test_a_rule_that_acts_on_nothing_is_an_error_that_lists_the_names(rules, message) -> None:
    with pytest.raises(QuantizationError, match=message):
        StochasticQuantization(network(), Ternary(), rules=rules)


def test_rules_give_layers_their_quantizer_by_name_or_by_the_name_around_them() -> None:
    model = nn.Sequential()
    model.add_module("group1", nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    model.add_module("group10", nn.Linear(2, 2))
    rules = [LayerRule(r"group1\.0", Float()), LayerRule("group1", Ternary())]
    sq = StochasticQuantization(model, Binary(), rules=rules)
    assert sq.quantizers == {"group1.1.weight": Ternary(), "group10.weight": Binary()}
    assert next(iter(quantizable_weights(model))) == "group1.0.weight"
    before = model.group1[0].weight.detach().clone()
    with sq.hybrid(ratio=1.0):
        assert torch.equal(model.group1[0].weight, before)
        assert len(model.group1[1].weight[0].abs().unique()) <= 2
        assert len(model.group10.weight[0].abs().unique()) == 1
    assert list(sq.freeze()) == ["group1.1.weight", "group10.weight"]
