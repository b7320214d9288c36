"""Learned steps and clipping points in odd orders of a loop, beside NaNs and below zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Activations,
    Binary,
    LearnedUniform,
    StochasticQuantization,
)

LSQ = LearnedUniform(bits=2)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def x() -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def backward(model: nn.Module) -> None:
    model(x()).square().sum().backward()


def gradients(sq: StochasticQuantization) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in sq.parameters()]


# Gradients of learned steps.


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_may_be_zeroed_inside_the_block(set_to_none: bool) -> None:
    found = []
    for inside in (False, True):
        model = network()
        sq = StochasticQuantization(model, LSQ)
        optimizer = torch.optim.SGD([*model.parameters(), *sq.parameters()], lr=0.01)
        for _ in range(3):
            if not inside:
                optimizer.zero_grad(set_to_none=set_to_none)
            with sq.hybrid(ratio=0.5):
                if inside:
                    optimizer.zero_grad(set_to_none=set_to_none)
                backward(model)
            optimizer.step()
        found.append([p.detach().clone() for p in (*model.parameters(), *sq.parameters())])
    assert all(map(torch.equal, *found))


def test_two_backward_passes_in_a_block_add_up() -> None:
    model, twin = network(), network()
    for one, times in ((model, 2), (twin, 1)):
        sq = StochasticQuantization(one, LSQ)
        with sq.hybrid(ratio=0.5):
            for _ in range(times):
                backward(one)
        if times == 2:
            doubled = gradients(sq) + [p.grad for p in one.parameters()]
        else:
            single = gradients(sq) + [p.grad for p in one.parameters()]
    for two, one in zip(doubled, single, strict=True):
        torch.testing.assert_close(two, 2 * one)


def test_an_evaluation_of_the_hybrid_is_no_step_of_training() -> None:
    model = network()
    sq = StochasticQuantization(model, LSQ, activations=Activations(bits=4))
    with sq.hybrid(ratio=0.5):
        backward(model)
    before, drawn = gradients(sq), sq.state_dict()["counts"]
    weights = [p.grad.clone() for p in model.parameters()]
    with sq.hybrid(ratio=0.5, redraw=False), torch.no_grad():
        model(x())
    assert all(map(torch.equal, gradients(sq), before))
    assert all(map(torch.equal, [p.grad for p in model.parameters()], weights))
    counts = sq.state_dict()["counts"]
    assert all(torch.equal(counts[name], drawn[name]) for name in drawn)
    assert sq.state_dict()["num_draws"] == 1


def test_an_evaluation_before_training_does_not_start_the_steps() -> None:
    model = network()
    sq = StochasticQuantization(model, LSQ)
    with sq.quantized():
        pass
    with torch.no_grad():
        model[0].weight.mul_(7)
    with sq.hybrid(ratio=1.0):
        pass
    expected = 2 * model[0].weight.detach().abs().mean(dim=1) / 1.5**0.5
    torch.testing.assert_close(sq.parameters()[0].detach(), expected)


def test_an_error_after_the_backward_pass_leaves_whole_gradients() -> None:
    model, twin = network(), network()
    sq, twin_sq = (StochasticQuantization(one, LSQ) for one in (model, twin))

    def late_error() -> None:
        backward(model)
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"), sq.hybrid(ratio=1.0):
        late_error()
    with twin_sq.hybrid(ratio=1.0):
        backward(twin)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert all(map(torch.equal, gradients(sq), gradients(twin_sq)))
    backward(model)  # the hooks are gone: outside of a block nothing is taken
    assert all(map(torch.equal, gradients(sq), gradients(twin_sq)))


def test_a_nested_mistake_leaves_the_outer_block_as_it_was() -> None:
    model, twin = network(), network()
    sq, twin_sq = (StochasticQuantization(one, LSQ) for one in (model, twin))
    with sq.hybrid(ratio=1.0):
        backward(model)
        with pytest.raises(QuantizationError, match="nested"), sq.hybrid(ratio=1.0):
            pass
    with twin_sq.hybrid(ratio=1.0):
        backward(twin)
    assert all(map(torch.equal, gradients(sq), gradients(twin_sq)))


# Numbers that are not finite, steps below zero.


def test_a_repaired_network_goes_on_with_steps_of_its_own() -> None:
    model = network()
    sq = StochasticQuantization(model, LSQ)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(QuantizationError, match=r"0\.weight"), sq.hybrid(ratio=0.5):
        pass
    with torch.no_grad():
        model[0].weight[0, 0] = 0.1
    with sq.hybrid(ratio=1.0):
        assert all(p.isfinite().all() for p in model.parameters())
    assert all(p.isfinite().all() for p in sq.parameters())


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_a_step_that_is_not_finite_is_an_error_that_names_the_layer(step: str) -> None:
    sq = StochasticQuantization(network(), LSQ, step=step)
    with sq.hybrid(ratio=0.5):
        pass
    with torch.no_grad():
        sq.parameters()[1][2] = float("nan")
    for block in (lambda: sq.hybrid(ratio=0.5), sq.quantized):
        with pytest.raises(QuantizationError, match=r"2\.weight has learned steps"), block():
            pass
    with pytest.raises(QuantizationError, match=r"2\.weight has learned steps"):
        sq.freeze()


def test_a_step_below_zero_is_as_good_as_its_absolute_value() -> None:
    model, twin = network(), network()
    sq, twin_sq = (StochasticQuantization(one, LSQ) for one in (model, twin))
    for one in (sq, twin_sq):
        with one.hybrid(ratio=0.5):
            pass
    with torch.no_grad():
        sq.parameters()[0].neg_()
    with sq.quantized(), twin_sq.quantized():
        assert all(map(torch.equal, model.parameters(), twin.parameters()))
    with torch.no_grad():
        sq.parameters()[0].zero_()
    with sq.hybrid(ratio=1.0):
        backward(model)
    assert sq.parameters()[0].grad.isfinite().all()
    assert sq.parameters()[0].grad.any()  # so that it can leave 0 again


@pytest.mark.parametrize("clipping", ["lsq", "pact"])
def test_a_clipping_point_below_zero_comes_back(clipping: str) -> None:
    model = network()
    spec = Activations(bits=4, clipping=clipping)
    sq = StochasticQuantization(model, Binary(), activations=spec)
    with sq.hybrid(ratio=1.0):
        expected = model(x())
    with torch.no_grad():
        for learned in sq.parameters():
            learned.neg_()
    with sq.hybrid(ratio=1.0):
        assert torch.equal(model(x()), expected)
