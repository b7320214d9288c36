"""Nesterov's momentum and what decays: two steps by hand, and whole trainings as torch's own."""

from __future__ import annotations

import pytest
import torch
from staged import config
from torch import nn

from sqtune.config.training import Optimizer
from sqtune.quant import Float, LearnedUniform, Stages
from sqtune.train.optim import (
    bound_gradients,
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
)
from sqtune.train.training import Training

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


def step(optimizer, parameters, gradients) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


def gradients_of(parameters, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(parameter.shape, generator=generator) for parameter in parameters]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_two_steps_of_sgd_by_hand(nesterov, decay):
    spec = Optimizer(lr=0.1, momentum=0.8, weight_decay=0.25, nesterov=nesterov, decay=decay)
    parameters = list(network().parameters())
    assert [p.ndim for p in parameters] == [4, 1, 1, 1, 2, 1]
    first, second = gradients_of(parameters, 1), gradients_of(parameters, 2)
    expected = []
    for parameter, one, two in zip(parameters, first, second, strict=True):
        w = parameter.detach().double()
        decayed = 0.25 if decay == "all" or w.ndim in (2, 4) else 0.0
        g = one.double() + decayed * w
        v = g
        w = w - 0.1 * (g + 0.8 * v if nesterov else v)
        g = two.double() + decayed * w
        v = 0.8 * v + g
        expected.append(w - 0.1 * (g + 0.8 * v if nesterov else v))
    optimizer = build_optimizer(parameters, [], spec)
    step(optimizer, parameters, first)
    step(optimizer, parameters, second)
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_a_learned_step_s_gradient_is_at_most_a_tenth_of_it_and_others_stay():
    steps = nn.Parameter(torch.tensor([0.02, 0.02, 0.02, 0.5]))
    steps.grad = torch.tensor([3.0, -3.0, 0.001, 0.04])
    unused, never = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(1))
    never.grad = torch.zeros(1)
    bound_gradients([steps, unused, never])
    torch.testing.assert_close(steps.grad, torch.tensor([0.002, -0.002, 0.001, 0.04]))
    assert unused.grad is None
    assert never.grad.item() == 0
    bound_gradients([])


def test_a_training_updates_with_bounded_gradients_of_what_is_learned(digits, monkeypatch):
    monkeypatch.setattr("sqtune.train.optim.LARGEST_SHARE", 0.01)  # some are 0.07
    learning = config(
        quantizer=LearnedUniform(8),
        activation_bits=8,
        schedule=Stages((1.0,)),
        optimizer=Optimizer(lr=0.4),
    )
    training = Training(learning, digits, CPU)
    shares, update = [], training.optimizer.step

    def step_measured() -> None:
        for parameter in training.quantization.parameters():
            shares.append(float((parameter.grad / parameter.detach()).abs().max()))
        update()

    training.optimizer.step = step_measured
    training.run_epoch(1)
    assert max(shares) == pytest.approx(0.01, rel=1e-4)


def test_two_steps_of_adamw_by_hand_with_torch_s_second_beta_and_eps():
    spec = Optimizer(name="adamw", lr=0.01, momentum=0.8, weight_decay=0.25, decay="weights")
    parameters = list(network().parameters())
    both = gradients_of(parameters, 1), gradients_of(parameters, 2)
    expected = []
    for parameter, *gradients in zip(parameters, *both, strict=True):
        w = parameter.detach().double()
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        for number, gradient in enumerate((each.double() for each in gradients), 1):
            w = w * (1 - 0.01 * (0.25 if w.ndim > 1 else 0.0))
            mean = 0.8 * mean + 0.2 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            root = (square / (1 - 0.999**number)).sqrt()
            w = w - 0.01 * (mean / (1 - 0.8**number)) / (root + 1e-8)
        expected.append(w)
    optimizer = build_optimizer(parameters, [], spec)
    for gradients in both:
        step(optimizer, parameters, gradients)
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", ["all", "weights"])
def test_what_is_learned_does_not_decay_and_may_come_later(decay):
    spec = Optimizer(weight_decay=0.25, decay=decay)
    parameters, learned = list(network().parameters()), [nn.Parameter(torch.ones(2))]
    without = build_optimizer(parameters, [], spec)
    step(without, parameters, gradients_of(parameters, 1))
    whole = build_optimizer(parameters, learned, spec)
    assert whole.param_groups[-1]["params"] == learned
    assert whole.param_groups[-1]["weight_decay"] == 0
    load_optimizer_state(whole, optimizer_state(without))
    assert learned[0] not in whole.state
    for parameter in parameters:
        ours, theirs = whole.state[parameter], without.state[parameter]
        assert torch.equal(ours["momentum_buffer"], theirs["momentum_buffer"])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_network_of_weights_alone_and_one_without(name):
    spec = Optimizer(name=name, lr=0.1, decay="weights", weight_decay=0.25)
    for parameters in ([nn.Parameter(torch.ones(2, 2))], [nn.Parameter(torch.ones(2))]):
        optimizer = build_optimizer(parameters, [], spec)
        step(optimizer, parameters, [torch.zeros_like(parameters[0])])
        decayed = parameters[0].ndim == 2
        assert (parameters[0] < 1).all() == decayed


@pytest.mark.parametrize("quantizer", [Float(), LearnedUniform(3)], ids=str)
def test_batch_norm_and_biases_of_a_training_do_not_decay(digits, quantizer):
    optimizer = Optimizer(decay="weights", nesterov=True)
    changes = {"quantizer": quantizer, "schedule": Stages(), "optimizer": optimizer}
    training = Training(config(**changes), digits, CPU)
    decay = {
        id(parameter): group["weight_decay"]
        for group in training.optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in training.model.named_parameters():
        kind = type(training.model.get_submodule(name.rpartition(".")[0]))
        is_weight = kind in (nn.Conv2d, nn.Linear) and name.endswith("weight")
        assert decay.pop(id(parameter)) == (1e-4 if is_weight else 0.0)
    assert set(decay.values()) <= {0.0}
    assert len(decay) == (0 if quantizer == Float() else 10)
    assert all(group["nesterov"] for group in training.optimizer.param_groups)
