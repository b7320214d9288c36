"""Odd orders, interrupts and changes behind the guest's back: mended, or an error that names it."""

from __future__ import annotations

import copy
import gc
import pickle

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


# Frozen.


@pytest.mark.parametrize("quantizer", [Ternary(), LSQ], ids=str)
def test_what_is_frozen_stays_as_it_is(quantizer) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight *= torch.logspace(-1, 1, 8)[:, None]
    sq = StochasticQuantization(model, quantizer, activations=Activations(bits=2))
    with sq.hybrid(ratio=1.0):
        model(x())
    layers = sq.freeze()
    weights, output = [p.detach().clone() for p in model.parameters()], model(x())
    with sq.quantized():
        assert torch.equal(model(x()), output)
    assert torch.equal(model(x()), output)  # activations stay switched on
    again = sq.freeze()
    assert all(map(torch.equal, model.parameters(), weights))
    for name, layer in layers.items():
        assert torch.equal(again[name].codes, layer.codes)
        assert torch.equal(sq.codes()[name].scale_O, layer.scale_O)
    with pytest.raises(QuantizationError, match="frozen"), sq.hybrid(ratio=0.5):
        pass


def test_codes_leave_the_model_as_it_is() -> None:
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    sq = StochasticQuantization(model, Ternary())
    codes = sq.codes()
    assert all(map(torch.equal, model.parameters(), before))
    assert all(torch.equal(codes[name].codes, layer.codes) for name, layer in sq.freeze().items())


# Weights that change behind the guest's back.


def test_an_update_inside_a_block_is_an_error_and_undone() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[0].weight.detach().clone()
    backward(model)
    with pytest.raises(QuantizationError, match="inside the block"), sq.hybrid(ratio=0.5):
        optimizer.step()
    assert torch.equal(model[0].weight, before)
    with sq.quantized():
        pass


def test_a_replaced_parameter_is_an_error_that_names_it() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    for block in (lambda: sq.hybrid(ratio=0.5), sq.quantized):
        with pytest.raises(QuantizationError, match=r"0\.weight was replaced"), block():
            pass
    with pytest.raises(QuantizationError, match=r"0\.weight was replaced"):
        sq.freeze()


def test_a_model_with_learned_steps_is_not_converted_afterwards() -> None:
    model = network()
    sq = StochasticQuantization(model, LSQ)
    model.double()
    message = "Convert and move a model before"
    with pytest.raises(QuantizationError, match=message), sq.hybrid(ratio=0.5):
        pass


def test_a_restored_copy_of_a_lost_original_writes_into_its_own_model() -> None:
    for _ in range(20):
        model = nn.Sequential(nn.Linear(6, 8))
        sq = StochasticQuantization(model, Binary())
        stored = pickle.dumps((model, sq))
        del model, sq
        gc.collect()
        model, sq = pickle.loads(stored)
        assert not sq._step._places  # old addresses may be used anew: none are taken along
        with sq.quantized():
            assert all(len(row.abs().unique()) == 1 for row in model[0].weight.detach())


def test_counts_survive_a_change_of_dtype() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=1.0):
        pass
    model.double()
    with sq.hybrid(ratio=1.0):
        pass
    assert all((layer.drawn_O == 1).all() for layer in sq.diagnostics().values())


# Interrupts.


def test_an_interrupt_while_restoring_is_made_good_at_the_next_block() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    before = [p.detach().clone() for p in model.parameters()]
    restore = sq._step.restore

    def interrupted() -> None:
        sq._step.restore = restore
        raise KeyboardInterrupt

    sq._step.restore = interrupted
    with pytest.raises(KeyboardInterrupt), sq.hybrid(ratio=1.0):
        pass
    assert not torch.equal(model[0].weight, before[0])
    with sq.hybrid(ratio=0.0):
        assert all(map(torch.equal, model.parameters(), before))
    with sq.quantized():
        pass
    assert all(map(torch.equal, model.parameters(), before))


def test_a_save_that_fails_restores_nothing() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.quantized():
        pass
    with torch.no_grad():
        model[0].weight.add_(1)
    changed = model[0].weight.detach().clone()

    def failing() -> None:
        raise MemoryError

    sq._step.save = failing
    with pytest.raises(MemoryError), sq.quantized():
        pass
    assert torch.equal(model[0].weight, changed)


@pytest.mark.parametrize("granularity", ["filter", "element"])
def test_an_evaluation_in_inference_mode_leaves_the_guest_usable(granularity: str) -> None:
    model = network()
    sq = StochasticQuantization(model, LSQ, selection=Selection(granularity=granularity))
    with torch.inference_mode(), sq.quantized():
        model(x())
    with sq.hybrid(ratio=0.5):
        backward(model)


# Copies, hooks, states.


def test_nothing_is_copied_inside_a_block() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=2))
    with sq.quantized():
        with pytest.raises(QuantizationError, match="copied inside a block"):
            copy.deepcopy((model, sq))
        alone = copy.deepcopy(model)
        inside = alone(x())
    with torch.no_grad():
        plain = nn.functional.linear(x(), alone[0].weight, alone[0].bias).relu()
    torch.testing.assert_close(inside, alone[2](plain))  # its inputs are float again


def test_two_guests_do_not_quantize_the_same_inputs() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=2))
    with pytest.raises(QuantizationError, match=r"0: its inputs are quantized by another"):
        StochasticQuantization(model, Binary(), activations=Activations(bits=2))
    sq.detach()
    assert not any(module._forward_pre_hooks for module in model.modules())
    StochasticQuantization(model, Binary(), activations=Activations(bits=2))


def test_the_ratio_0_forgets_the_rows_of_the_last_draw() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=0.5):
        pass
    with sq.hybrid(ratio=0.0):
        assert sq.state_dict()["masks"] == {}
    with sq.hybrid(ratio=0.0, redraw=False):
        assert torch.equal(model[0].weight, before)


def other(**options: object) -> StochasticQuantization:
    return StochasticQuantization(options.pop("model", network()), **options)


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ({"quantizer": Binary()}, {"quantizer": Binary(), "model": nn.Sequential(nn.Linear(6, 1))}),
        ({"quantizer": Binary()}, {"quantizer": LSQ}),
        ({"quantizer": LSQ}, {"quantizer": Binary()}),
        ({"quantizer": Binary()}, {"quantizer": Binary(), "activations": Activations()}),
        ({"quantizer": Binary(), "activations": Activations()}, {"quantizer": Binary()}),
        (
            {"quantizer": Binary()},
            {"quantizer": Binary(), "selection": Selection(granularity="element")},
        ),
        ({"quantizer": Binary()}, {"quantizer": Binary(), "rules": [LayerRule("2", Float())]}),
    ],
)
def test_a_state_of_another_guest_is_refused_whole(stored: dict, given: dict) -> None:
    source = other(**stored)
    with source.hybrid(ratio=0.5):
        pass
    target = other(**given)
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(QuantizationError, match="belongs to another model"):
        target.load_state_dict(source.state_dict())
    assert torch.equal(target.generator.get_state(), before["generator"])
    assert target.state_dict()["masks"].keys() == before["masks"].keys()


# Layers that are something else than they look.


def test_a_lazy_layer_asks_for_a_batch_first() -> None:
    with pytest.raises(QuantizationError, match="0: its weight has no shape yet"):
        StochasticQuantization(nn.Sequential(nn.LazyLinear(3)), Binary())


def test_a_parametrized_layer_may_stay_float() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    sq = StochasticQuantization(model, Binary(), rules=[LayerRule("1", Float())])
    assert list(sq.quantizers) == ["0.weight"]


def test_inputs_are_quantized_by_keyword_too_and_an_empty_batch_starts_nothing() -> None:
    layer = nn.Linear(6, 3)
    model = nn.Sequential(layer)
    sq = StochasticQuantization(model, Binary(), activations=Activations(bits=2, ends_bits=2))
    with sq.hybrid(ratio=1.0):
        assert model(torch.zeros(0, 6)).shape == (0, 3)
        expected = layer(x())
        assert torch.equal(layer(input=x()), expected)
        assert not torch.equal(nn.functional.linear(x(), layer.weight, layer.bias), expected)


def test_all_layers_that_share_a_weight_have_low_bit_inputs() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    StochasticQuantization(model, Binary(), activations=Activations(bits=2))
    assert all(layer._forward_pre_hooks for layer in model)
