"""Low-bit activations: grids, gradients as literally transcribed, where and when they act."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Activations,
    Binary,
    Float,
    LayerRule,
    StochasticQuantization,
)
from sqtune.quant.activations import InputQuantizer

CPU = torch.device("cpu")
BITS = (2, 4, 8)
CLIPPINGS = ("lsq", "pact")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def images() -> Tensor:
    return torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def inputs_of(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return what reaches each layer, after whatever stands in front of it."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, args, _out, name=name: seen.__setitem__(name, args[0].detach())
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
def test_values_lie_on_the_grid_and_are_the_nearest(bits: int, clipping: str, signed: bool) -> None:
    quantizer = InputQuantizer(bits, clipping, CPU)
    x = torch.randn(16, 50)
    x = x if signed else x.relu()
    quantizer.start(x)
    y = quantizer.quantize(x).detach()
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    assert quantizer.top == top
    assert quantizer.low == (-top if signed else 0)
    step = quantizer.learned.detach() / (1 if clipping == "lsq" else top)
    levels = y / step
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert levels.min() >= quantizer.low - 1e-4
    assert levels.max() <= top + 1e-4
    inside = (x / step >= quantizer.low) & (x / step <= top)
    assert ((x - y).abs()[inside] <= step / 2 * (1 + 1e-5)).all()
    assert inside.float().mean() > 0.7


class LiteralLsq(torch.autograd.Function):
    """LSQ, equations 1 to 5."""

    @staticmethod
    def forward(ctx, x, step, low, top):
        ctx.save_for_backward(x, step)
        ctx.ends = low, top
        return (x / step).clamp(low, top).round() * step

    @staticmethod
    def backward(ctx, gradient):
        x, step = ctx.saved_tensors
        low, top = ctx.ends
        scaled = x / step
        inside = (scaled > low) & (scaled < top)
        slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(low, top))
        share = 1 / (x[0].numel() * top) ** 0.5
        return gradient * inside, (gradient * slope).sum() * share, None, None


class LiteralPact(torch.autograd.Function):
    """PACT, equations 1 to 3."""

    @staticmethod
    def forward(ctx, x, ceiling, low, top):
        ctx.save_for_backward(x, ceiling)
        ctx.signed = low < 0
        clipped = x.clamp(-ceiling if ctx.signed else torch.zeros(()), ceiling)
        return (clipped * top / ceiling).round() * ceiling / top

    @staticmethod
    def backward(ctx, gradient):
        x, ceiling = ctx.saved_tensors
        above, below = x > ceiling, x < (-ceiling if ctx.signed else 0)
        of_ceiling = above.float() - (below.float() if ctx.signed else 0)
        return gradient * ~(above | below), (gradient * of_ceiling).sum(), None, None


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("clipping", "literal"), [("lsq", LiteralLsq), ("pact", LiteralPact)])
def test_gradients_are_those_of_a_literal_transcription(
    clipping: str, literal: type, bits: int, signed: bool
) -> None:
    quantizer = InputQuantizer(bits, clipping, CPU)
    x = 3 * torch.randn(6, 40)
    x = x if signed else x.abs()
    quantizer.start(x)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    learned = quantizer.learned.detach().clone().requires_grad_()
    y = quantizer.quantize(ours)
    y.sin().sum().backward()
    expected = literal.apply(theirs, learned, float(quantizer.low), float(quantizer.top))
    expected.sin().sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(quantizer.learned.grad, learned.grad, rtol=1e-4, atol=1e-5)


def test_first_and_last_layer_follow_their_own_rule() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=2))
    with sq.quantized():
        seen = inputs_of(model, images())
    assert 8 < len(seen["0"].unique()) <= 255  # signed, 8 bits
    assert len(seen["2"].unique()) <= 4  # unsigned, 2 bits
    assert 8 < len(seen["5"].unique()) <= 256
    model = network()
    spec = Activations(bits=2, ends_bits=32)
    with StochasticQuantization(model, Binary(), activations=spec).quantized():
        seen = inputs_of(model, images())
    assert torch.equal(seen["0"], images())
    assert len(seen["2"].unique()) <= 4


def test_layers_that_stay_float_have_float_inputs() -> None:
    model = network()
    rules = [LayerRule("2", Float())]
    sq = StochasticQuantization(model, Binary(), rules=rules, activations=Activations(bits=2))
    assert len(sq.parameters()) == 2
    with sq.quantized():
        assert len(inputs_of(model, images())["2"].unique()) > 8


def test_they_act_inside_the_blocks_only_and_not_at_ratio_0() -> None:
    model = network()
    plain = model(images())
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=4))
    assert torch.equal(model(images()), plain)
    with sq.hybrid(ratio=0.0):
        assert torch.equal(model(images()), plain)
    with sq.hybrid(ratio=0.5):
        assert not torch.equal(model(images()), plain)
    assert torch.equal(model(images()), plain)
    with sq.quantized():
        inside = model(images())
    sq.freeze()
    assert torch.equal(model(images()), inside)  # what was evaluated is what is delivered


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_clipping_points_learn_beside_the_weights(clipping: str) -> None:
    model = network()
    spec = Activations(bits=4, clipping=clipping)
    sq = StochasticQuantization(model, Binary(), activations=spec)
    optimizer = torch.optim.SGD([*model.parameters(), *sq.parameters()], lr=0.1)
    labels = torch.arange(8) % 3
    losses, first = [], None
    for _ in range(60):
        optimizer.zero_grad()
        with sq.hybrid(ratio=1.0):
            loss = nn.functional.cross_entropy(model(images()), labels)
            loss.backward()
        first = first or [p.item() for p in sq.parameters()]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.8
    assert all(p.item() != start for p, start in zip(sq.parameters(), first, strict=True))


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_first_clipping_points_are_those_of_the_inputs_that_are_not_zero(clipping: str) -> None:
    quantizer, x = InputQuantizer(4, clipping, CPU), torch.randn(40, 50).relu()
    quantizer.start(x)
    inputs = x[x > 0]
    lsq, pact = 2 * inputs.mean() / 15**0.5, inputs.mean() + 3 * inputs.std(correction=0)
    expected = lsq if clipping == "lsq" else pact
    assert quantizer.learned.item() == pytest.approx(expected.item(), rel=1e-4)
    # A PACT ceiling learns from what it clips: something has to be.
    assert clipping == "lsq" or 0 < (x > quantizer.learned).float().mean() < 0.02


def test_a_continuation_takes_the_clipping_points_up() -> None:
    def start() -> tuple[nn.Module, StochasticQuantization]:
        model = network()
        return model, StochasticQuantization(model, Binary(), activations=Activations(bits=2))

    model, sq = start()
    with sq.hybrid(ratio=1.0):
        model(images())
    state = copy.deepcopy(sq.state_dict())
    later, later_sq = start()
    later_sq.load_state_dict(state)
    with sq.quantized(), later_sq.quantized():
        assert torch.equal(model(3 * images()), later(3 * images()))


def test_an_all_zero_input_stays_zero_and_makes_no_nan() -> None:
    quantizer = InputQuantizer(4, "lsq", CPU)
    x = torch.zeros(2, 3, requires_grad=True)
    quantizer.start(x.detach())
    y = quantizer.quantize(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 3))
    assert x.grad.isfinite().all()
    assert quantizer.learned.grad.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "2, 4 or 8 bits, not 3"),
        ({"clipping": "max"}, "clipping 'max' is unknown"),
        ({"bits": 8, "ends_bits": 4}, "at least the 8 bits"),
        ({"ends_bits": 16}, "not 16"),
    ],
)
def test_a_wrong_description_is_an_error(options: dict, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        Activations(**options)
