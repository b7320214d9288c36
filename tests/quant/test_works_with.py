"""The guest in other people's loops: copies, accumulation, averages, compilation, all layers."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from sqtune.quant import (
    Activations,
    Binary,
    LearnedUniform,
    Selection,
    StochasticQuantization,
    Ternary,
    quantize_rows,
)


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
