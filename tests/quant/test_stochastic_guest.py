"""StochasticQuantization as a guest: whatever happens, the model is the one it was."""

import copy
import io
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Average,
    Binary,
    Float,
    Quantizer,
    Selection,
    StochasticQuantization,
    Ternary,
    Uniform,
    quantizable_weights,
)

QUANTIZERS = [Binary(), Ternary(), Uniform(bits=2), Uniform(bits=4)]

Block = Callable[[StochasticQuantization], AbstractContextManager[None]]
BLOCKS: dict[str, Block] = {
    "hybrid_by_progress": lambda sq: sq.hybrid(0.3),
    "hybrid_by_ratio": lambda sq: sq.hybrid(ratio=0.5),
    "hybrid_whole": lambda sq: sq.hybrid(ratio=1.0),
    "hybrid_again": lambda sq: sq.hybrid(ratio=0.5, redraw=False),
    "quantized": lambda sq: sq.quantized(),
}
IN_EACH_BLOCK = pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
FOR_EACH_QUANTIZER = pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)


def network() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv1d(2, 5, 3),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model[4].weight[0] = 0.0  # a dead neuron
        model[4].weight[1, :3] = torch.tensor([-0.0, 1e-40, -1e30])
    return model


def inputs() -> Tensor:
    return torch.randn(6, 2, 6, generator=torch.Generator().manual_seed(1))


def bits(model: nn.Module) -> dict[str, list[int]]:
    """Return the bit patterns of all parameters: -0.0 is not 0.0."""
    return {
        name: p.detach().contiguous().view(torch.int32).flatten().tolist()
        for name, p in model.named_parameters()
    }


def quantized_names(model: nn.Module, before: dict[str, list[int]]) -> set[str]:
    return {name for name, pattern in bits(model).items() if pattern != before[name]}


# The latent weights come back.


@IN_EACH_BLOCK
@FOR_EACH_QUANTIZER
def test_latent_weights_come_back_bit_for_bit(block: Block, quantizer: Quantizer) -> None:
    model = network()
    before = bits(model)
    sq = StochasticQuantization(model, quantizer, Average())
    for _ in range(3):
        with block(sq):
            assert quantized_names(model, before) == set(quantizable_weights(model))
        assert bits(model) == before


@IN_EACH_BLOCK
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_latent_weights_come_back_after_an_exception(
    block: Block, error: type[BaseException]
) -> None:
    model = network()
    before = bits(model)
    sq = StochasticQuantization(model, Binary(), Average())
    with pytest.raises(error, match="broken"), block(sq):
        raise error("broken")
    assert bits(model) == before
    with block(sq):  # and the guest is usable again
        assert bits(model) != before


@IN_EACH_BLOCK
def test_latent_weights_come_back_when_a_later_layer_cannot_be_quantized(block: Block) -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight[1, 2] = float("nan")
    before = bits(model)
    sq = StochasticQuantization(model, Uniform(bits=4), Average())
    for _ in range(2):  # the second time it is not a nested block either
        with pytest.raises(QuantizationError, match=r"1\.weight holds 1 weights"), block(sq):
            pass
        assert bits(model) == before


def test_weights_changed_between_two_blocks_are_the_latent_ones() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=0.5):
        pass
    with torch.no_grad():
        model[6].weight.add_(1.0)
    changed = bits(model)
    with sq.hybrid(ratio=0.5):
        pass
    assert bits(model) == changed


def test_a_backward_pass_after_the_block_is_an_error_and_no_wrong_gradient() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=0.5):
        loss = model(inputs()).square().sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# The model keeps its names, parameters and everything that is no quantizable weight.


@IN_EACH_BLOCK
def test_names_and_parameters_stay_the_same_objects(block: Block) -> None:
    model = network()

    def identity() -> list[tuple[str, int, bool, int]]:
        return [
            (name, id(p), p.requires_grad, p.data_ptr()) for name, p in model.named_parameters()
        ]

    keys, modules, before = list(model.state_dict()), list(model.modules()), identity()
    sq = StochasticQuantization(model, Binary(), Average())
    assert identity() == before
    with block(sq):
        assert list(model.state_dict()) == keys
        assert identity() == before
        assert list(model.modules()) == modules
    sq.freeze()
    assert list(model.state_dict()) == keys
    assert identity() == before


def test_the_optimizer_keeps_its_state() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(1, 4):
        optimizer.zero_grad()
        with sq.hybrid(ratio=0.5):
            model(inputs()).square().sum().backward()
        optimizer.step()
        states = [optimizer.state[parameter] for parameter in model.parameters()]
        assert [int(state["step"]) for state in states] == [step] * len(states)


def test_a_frozen_parameter_is_quantized_too() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = bits(model)
    with StochasticQuantization(model, Binary()).quantized():
        assert "0.weight" in quantized_names(model, before)
    assert bits(model) == before


def test_blocks_leave_the_global_random_source_alone() -> None:
    sq = StochasticQuantization(network(), Binary())
    before = torch.get_rng_state()
    with sq.hybrid(ratio=0.5):
        pass
    assert torch.equal(torch.get_rng_state(), before)


@IN_EACH_BLOCK
def test_float_leaves_everything_alone(block: Block) -> None:
    model = network()
    before = bits(model)
    sq = StochasticQuantization(model, Float(), Average())
    source = sq.generator.get_state()
    with block(sq):
        assert bits(model) == before
    assert sq.freeze() == {}
    assert bits(model) == before
    assert sq.state_dict()["masks"] == {}
    assert torch.equal(sq.generator.get_state(), source)


def test_ratio_0_leaves_everything_alone() -> None:
    model = network()
    before = bits(model)
    with StochasticQuantization(model, Binary()).hybrid(ratio=0.0):
        assert bits(model) == before
    assert bits(model) == before


# Nesting, arguments, models without layers.

INNER = {
    "hybrid": lambda sq: sq.hybrid(ratio=0.5).__enter__(),
    "quantized": lambda sq: sq.quantized().__enter__(),
    "freeze": lambda sq: sq.freeze(),
}


@IN_EACH_BLOCK
@pytest.mark.parametrize("inner", INNER.values(), ids=list(INNER))
def test_a_block_inside_a_block_is_an_error_and_changes_nothing(
    block: Block, inner: Callable[[StochasticQuantization], object]
) -> None:
    model = network()
    before = bits(model)
    sq = StochasticQuantization(model, Binary(), Average())
    with block(sq):
        inside = bits(model)
        for _ in range(2):
            with pytest.raises(QuantizationError, match="cannot be nested"):
                inner(sq)
        assert bits(model) == inside
    assert bits(model) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either progress or ratio"),
        ({"progress": 0.5, "ratio": 0.5}, "either progress or ratio"),
        ({"ratio": 1.1}, r"a ratio is in \[0, 1\], not 1.1"),
        ({"ratio": -0.1}, r"a ratio is in \[0, 1\], not -0.1"),
        ({"ratio": float("nan")}, r"a ratio is in \[0, 1\], not nan"),
        ({"progress": 1.1}, r"progress is in \[0, 1\], not 1.1"),
    ],
)
def test_a_wrong_argument_is_an_error_and_changes_nothing(
    options: dict[str, float], message: str
) -> None:
    model = network()
    before = bits(model)
    sq = StochasticQuantization(model, Binary())
    with pytest.raises(QuantizationError, match=message), sq.hybrid(**options):
        pass
    assert bits(model) == before
    with sq.quantized():
        assert bits(model) != before


def test_a_model_without_a_layer_to_quantize_is_an_error_that_names_the_known_ones() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    with pytest.raises(QuantizationError, match=r"Sequential has no .* convolutions of 1 to 3"):
        StochasticQuantization(model, Binary())


# A weight that two modules share.


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


@FOR_EACH_QUANTIZER
def test_a_shared_weight_is_quantized_once_and_comes_back(quantizer: Quantizer) -> None:
    model, alone = tied(), nn.Linear(4, 4)
    alone.load_state_dict(model[0].state_dict())
    before = bits(model)
    sq = StochasticQuantization(model, quantizer)
    one = StochasticQuantization(alone, quantizer)
    for blocks in [
        (sq.hybrid(ratio=0.5), one.hybrid(ratio=0.5)),
        (sq.quantized(), one.quantized()),
    ]:
        with blocks[0], blocks[1]:
            assert model[0].weight is model[2].weight
            assert torch.equal(model[0].weight, alone.weight)
        assert bits(model) == before
    assert list(quantizable_weights(model)) == list(sq.state_dict()["masks"]) == ["0.weight"]
    assert torch.equal(sq.freeze()["0.weight"].values(), one.freeze()["weight"].values())


def test_a_module_that_is_used_twice_is_named_once() -> None:
    linear = nn.Linear(4, 4)
    assert list(quantizable_weights(nn.Sequential(linear, nn.Tanh(), linear))) == ["0.weight"]


def test_a_single_layer_is_a_model() -> None:
    assert list(quantizable_weights(nn.Linear(2, 2))) == ["weight"]


# Copies, autocast, continuation.


@IN_EACH_BLOCK
def test_a_deep_copy_is_an_independent_plain_model(block: Block) -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), Average())
    with block(sq):
        inside, inner_copy = bits(model), copy.deepcopy(model)
    outer_copy, before = copy.deepcopy(model), bits(model)
    assert bits(inner_copy) == inside
    sq.freeze()
    assert bits(outer_copy) == before
    other = StochasticQuantization(outer_copy, Binary(), Average())
    with block(other):
        pass
    assert bits(outer_copy) == before


def fresh_output(model: nn.Module, x: Tensor) -> Tensor:
    """Return a copy's output under an autocast of its own, whose cache holds nothing."""
    twin = copy.deepcopy(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        return twin(x)


def test_autocast_never_uses_the_weights_of_another_block() -> None:
    model, x = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8)), torch.ones(2, 16)
    sq = StochasticQuantization(model, Binary(), Average())
    outputs = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            for block in BLOCKS.values():
                with block(sq):
                    outputs.append(model(x))
                    assert torch.equal(outputs[-1], fresh_output(model, x))
                assert torch.equal(model(x), fresh_output(model, x))
        latent = model(x)
        sq.freeze()
        assert torch.equal(model(x), fresh_output(model, x))
    assert not torch.equal(outputs[-1], latent)
    assert outputs[-1].dtype == torch.bfloat16


def test_autocast_gradients_reach_the_latent_weights() -> None:
    model, x = nn.Linear(8, 4), torch.ones(2, 8)
    sq = StochasticQuantization(model, Binary())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x).sum().backward()  # fills the cache
        first = model.weight.grad.clone()
        model.weight.grad = None
        with sq.hybrid(ratio=0.5):
            model(x).sum().backward()
    assert torch.equal(model.weight.grad, first)  # the loss is linear: its gradient stays


def train(
    model: nn.Module,
    sq: StochasticQuantization,
    optimizer: torch.optim.Optimizer,
    ratios: list[float],
) -> None:
    for ratio in ratios:
        optimizer.zero_grad()
        with sq.hybrid(ratio=ratio):
            model(inputs()).tanh().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("strategy", ["stochastic", "deterministic", "fixed"])
@pytest.mark.parametrize("granularity", ["filter", "element"])
def test_a_continuation_is_bit_identical(strategy: str, granularity: str) -> None:
    selection = Selection(strategy=strategy, granularity=granularity)

    def start(seed: int) -> tuple[nn.Module, StochasticQuantization, torch.optim.Optimizer]:
        model, generator = network(), torch.Generator().manual_seed(seed)
        sq = StochasticQuantization(model, Binary(), selection=selection, generator=generator)
        return model, sq, torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    model, sq, optimizer = start(seed=1)
    train(model, sq, optimizer, [0.5] * 3)
    saved = io.BytesIO()
    torch.save([part.state_dict() for part in (model, sq, optimizer)], saved)
    train(model, sq, optimizer, [0.5, 0.5, 0.75, 0.75])

    saved.seek(0)
    later = start(seed=2)
    for part, state in zip(later, torch.load(saved, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*later, [0.5, 0.5, 0.75, 0.75])
    assert bits(later[0]) == bits(model)
    masks, later_masks = sq.state_dict()["masks"], later[1].state_dict()["masks"]
    assert list(masks) == list(later_masks)
    assert all(torch.equal(masks[name], later_masks[name]) for name in masks)
    assert torch.equal(sq.generator.get_state(), later[1].generator.get_state())


def test_a_state_does_not_change_while_training_goes_on() -> None:
    sq = StochasticQuantization(nn.Linear(3, 40), Binary())
    with sq.hybrid(ratio=0.5):
        state = sq.state_dict()
    kept = copy.deepcopy(state)
    with sq.hybrid(ratio=0.75):
        pass
    assert torch.equal(state["masks"]["weight"], kept["masks"]["weight"])
    assert torch.equal(state["generator"], kept["generator"])
    assert state["drawn_ratio"] == kept["drawn_ratio"] == 0.5


def test_a_state_without_draws_forgets_those_that_were_made() -> None:
    sq = StochasticQuantization(nn.Linear(3, 40), Binary())
    state = sq.state_dict()
    with sq.hybrid(ratio=0.5):
        drawn = sq.state_dict()["masks"]["weight"]
    sq.load_state_dict(state)
    assert sq.state_dict()["masks"] == {}
    with sq.hybrid(ratio=0.5):
        assert torch.equal(sq.state_dict()["masks"]["weight"], drawn)
