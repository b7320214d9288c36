"""Learned steps: their gradients against autograd on a literal transcription, and their life."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sqtune.quant import (
    Binary,
    LayerRule,
    LearnedTernary,
    LearnedUniform,
    Selection,
    Stages,
    StochasticQuantization,
    Uniform,
    pack,
    packed_bytes,
    quantize_rows,
    row_errors,
    unpack,
)

LEARNED = [*(LearnedUniform(bits=bits) for bits in range(2, 9)), LearnedTernary()]
FOR_EACH = pytest.mark.parametrize("quantizer", LEARNED, ids=str)


def levels_of(quantizer: LearnedUniform | LearnedTernary) -> tuple[float, float]:
    """Return the lowest and highest level, by the description."""
    if isinstance(quantizer, LearnedTernary):
        return -1.0, 1.0
    if quantizer.bits == 2:
        return -1.5, 1.5
    top = 2.0 ** (quantizer.bits - 1) - 1
    return -top, top


class Literal(torch.autograd.Function):
    """LSQ, equations 1 to 5, one row at a time: the quantized row and both gradients."""

    @staticmethod
    def forward(ctx, w_K, step, low, top, offset):
        scaled_K = w_K / step
        level_K = ((scaled_K - offset).round() + offset).clamp(low, top)
        ctx.save_for_backward(scaled_K, level_K)
        ctx.ends = low, top
        return level_K * step

    @staticmethod
    def backward(ctx, gradient_K):
        scaled_K, level_K = ctx.saved_tensors
        low, top = ctx.ends
        inside_K = (scaled_K >= low) & (scaled_K <= top)
        slope_K = torch.where(inside_K, level_K - scaled_K, level_K)
        share = 1 / (len(scaled_K) * top) ** 0.5
        return gradient_K * inside_K, (gradient_K * slope_K).sum() * share, None, None, None


def literal_gradients(
    weight: Tensor, step_O: Tensor, mask_O: Tensor, quantizer, x: Tensor
) -> tuple[Tensor, Tensor]:
    low, top = levels_of(quantizer)
    offset = 0.5 if quantizer == LearnedUniform(bits=2) else 0.0
    weight, step_O = weight.clone().requires_grad_(), step_O.clone().requires_grad_()
    rows = [
        Literal.apply(w_K, step, low, top, offset) if taken else w_K
        for w_K, step, taken in zip(weight, step_O, mask_O, strict=True)
    ]
    (x @ torch.stack(rows).T).tanh().square().sum().backward()
    return weight.grad, step_O.grad


@FOR_EACH
@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_gradients_are_those_of_a_literal_transcription(quantizer, ratio: float) -> None:
    linear = nn.Linear(9, 5, bias=False, dtype=torch.float64)
    sq = StochasticQuantization(linear, quantizer)
    x = torch.randn(4, 9, dtype=torch.float64)
    (step_O,) = sq.parameters()
    with sq.hybrid(ratio=1.0):  # the steps start here
        pass
    with torch.no_grad():
        step_O.mul_(torch.tensor([0.3, 0.6, 1.0, 1.5, 0.1]))  # some weights beyond the grid
    for accumulated in (1, 2):
        with sq.hybrid(ratio=ratio):
            mask_O = sq.state_dict()["masks"]["weight"]
            linear(x).tanh().square().sum().backward()
        of_weight, of_step = literal_gradients(
            linear.weight.detach(), step_O.detach(), mask_O, quantizer, x
        )
        if accumulated == 1:
            total_weight, total_step = of_weight, of_step
        else:  # gradient accumulation: another draw, added
            total_weight, total_step = total_weight + of_weight, total_step + of_step
        torch.testing.assert_close(linear.weight.grad, total_weight)
        torch.testing.assert_close(step_O.grad, total_step)


@FOR_EACH
def test_the_contract_of_quantizers_holds_for_learned_steps(quantizer) -> None:
    w_OK = torch.randn(6, 20)
    w_OK[1] = 0
    rows = quantize_rows(w_OK, quantizer)
    low, top = levels_of(quantizer)
    assert ((rows.codes_OK + rows.offset) >= low).all()
    assert ((rows.codes_OK + rows.offset) <= top).all()
    assert torch.equal(rows.values(), (rows.codes_OK.float() + rows.offset) * rows.scale_O[:, None])
    assert ((rows.scale_O > 0) == w_OK.any(dim=1)).all()
    nearest = (w_OK - rows.values()).abs()
    for level in torch.arange(low, top + 1):
        assert (nearest <= (w_OK - level * rows.scale_O[:, None]).abs() + 1e-6).all()
    packed = pack(rows.codes_OK, quantizer)
    assert packed.numel() == packed_bytes(rows.codes_OK.numel(), quantizer)
    assert torch.equal(unpack(packed, 120, quantizer), rows.codes_OK.flatten())


def train(model: nn.Module, sq: StochasticQuantization, ratios: list[float]) -> None:
    optimizer = torch.optim.SGD([*model.parameters(), *sq.parameters()], lr=0.05, momentum=0.9)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(5))
    for ratio in ratios:
        optimizer.zero_grad()
        with sq.hybrid(ratio=ratio):
            (model(x) - x[:, :3]).square().mean().backward()
        optimizer.step()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def test_learned_steps_lower_the_error_of_what_is_delivered() -> None:
    def loss(quantizer) -> float:
        model = network()
        sq = StochasticQuantization(model, quantizer)
        train(model, sq, [0.5] * 100 + [1.0] * 300)
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(5))
        with sq.quantized(), torch.no_grad():
            return float((model(x) - x[:, :3]).square().mean())

    assert loss(LearnedUniform(bits=2)) < loss(Uniform(bits=2))


def test_steps_start_from_the_weights_after_a_float_warm_up() -> None:
    model = network()
    sq = StochasticQuantization(model, LearnedUniform(bits=4), Stages(ratios=(0.0, 1.0)))
    before = [step.detach().clone() for step in sq.parameters()]
    train(model, sq, [0.0] * 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    with sq.hybrid(ratio=0.5):
        pass
    for step, weight, old in zip(sq.parameters(), (model[0], model[2]), before, strict=True):
        expected = 2 * weight.weight.detach().abs().mean(dim=1) / 7**0.5
        torch.testing.assert_close(step.detach(), expected)
        assert not torch.allclose(step, old)


def test_a_step_that_an_optimizer_pushed_below_zero_quantizes_without_a_nan() -> None:
    model = network()
    sq = StochasticQuantization(model, LearnedUniform(bits=3))
    train(model, sq, [1.0])
    with torch.no_grad():
        sq.parameters()[0].neg_()
    train(model, sq, [1.0, 0.5])
    with sq.quantized():
        assert all(p.isfinite().all() for p in model.parameters())
    assert all(step.grad.isfinite().all() for step in sq.parameters())


@FOR_EACH
def test_frozen_layers_carry_the_learned_steps(quantizer) -> None:
    model = network()
    sq = StochasticQuantization(model, quantizer)
    train(model, sq, [0.5] * 20)
    with sq.quantized():
        evaluated = {name: p.detach().clone() for name, p in model.named_parameters()}
    layers = sq.freeze()
    for (name, layer), step in zip(layers.items(), sq.parameters(), strict=True):
        assert torch.equal(layer.scale_O, step)
        assert torch.equal(layer.values(), evaluated[name])
        assert torch.equal(dict(model.named_parameters())[name], evaluated[name])


def test_only_layers_with_a_learned_quantizer_have_steps() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), rules=[LayerRule("2", LearnedTernary())])
    assert [step.shape for step in sq.parameters()] == [torch.Size([3])]
    assert StochasticQuantization(network(), Binary()).parameters() == []


def test_a_weight_that_is_not_trained_leaves_its_steps_alone() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    sq = StochasticQuantization(model, LearnedUniform(bits=3))
    train(model, sq, [1.0] * 2)
    first, second = sq.parameters()
    assert first.grad is None
    assert second.grad is not None


@pytest.mark.parametrize("granularity", ["filter", "element"])
def test_a_continuation_with_learned_steps_is_bit_identical(granularity: str) -> None:
    def start() -> tuple[nn.Module, StochasticQuantization]:
        model = network()
        selection = Selection(granularity=granularity)
        return model, StochasticQuantization(model, LearnedUniform(bits=2), selection=selection)

    model, sq = start()
    train(model, sq, [0.5] * 3)
    state = copy.deepcopy((model.state_dict(), sq.state_dict()))
    train(model, sq, [0.5, 0.75])
    later, later_sq = start()
    later.load_state_dict(state[0])
    later_sq.load_state_dict(state[1])
    train(later, later_sq, [0.5, 0.75])
    assert all(map(torch.equal, model.parameters(), later.parameters()))
    assert all(map(torch.equal, sq.parameters(), later_sq.parameters()))


def test_rows_beyond_the_grid_have_the_end_s_level_and_an_error() -> None:
    w_OK = torch.tensor([[1.0, -1.0, 8.0]])
    q_OK = quantize_rows(w_OK, LearnedUniform(bits=3), torch.tensor([1.0])).values()
    assert q_OK.tolist() == [[1.0, -1.0, 3.0]]
    assert row_errors(w_OK, q_OK).item() == pytest.approx(0.5)
