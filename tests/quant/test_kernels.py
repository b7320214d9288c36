"""The step for all layers at once equals the plain one: same masks, same weights, bit for bit."""

from __future__ import annotations

import copy
import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Binary,
    LayerRule,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Selection,
    StochasticQuantization,
    Ternary,
    Uniform,
    quantize_rows,
    row_errors,
)
from sqtune.quant.kernels import Grouped
from sqtune.quant.reference import PerLayer

QUANTIZERS: list[Quantizer] = [
    Binary(),
    Ternary(),
    Ternary(threshold="layer"),
    Ternary(threshold="row"),
    Uniform(bits=2),
    Uniform(bits=3),
    Uniform(bits=8, scale_steps=0),
    LearnedUniform(bits=2),
    LearnedUniform(bits=4),
    LearnedTernary(),
]
FUNCTIONS = ("constant", "linear", "softmax", "sigmoid", "error")
STRATEGIES = ("stochastic", "deterministic", "fixed")
FOR_EACH_QUANTIZER = pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Layers of every kind: equal shapes that stack, single rows, single weights, equal rows."""
    torch.manual_seed(seed)
    model = nn.ModuleList(
        [
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Linear(72, 8),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.Conv1d(4, 1, 5),
            nn.Conv3d(2, 5, (1, 2, 3)),
            nn.ConvTranspose2d(4, 6, 3, groups=2),
            nn.ConvTranspose1d(3, 8, 4),
            nn.Linear(1, 1),
            nn.Linear(1, 9),
            nn.Linear(33, 17),
            nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last),
        ]
    ).to(dtype)
    with torch.no_grad():
        model[1].weight[2] = 0
        model[1].weight[3] = -model[1].weight[4]  # equal errors
        model[2].weight[0, ::3] = 0
        model[3].weight[1] = -0.0
    return model


def twins(
    quantizer: Quantizer, selection: Selection, **options: object
) -> list[tuple[nn.Module, StochasticQuantization]]:
    dtype = options.pop("dtype", torch.float32)
    pairs = []
    for step in ("grouped", "per_layer"):
        model = network(dtype=dtype)
        generator = torch.Generator().manual_seed(7)
        sq = StochasticQuantization(
            model, quantizer, selection=selection, generator=generator, step=step, **options
        )
        pairs.append((model, sq))
    assert isinstance(pairs[0][1]._step, Grouped)
    assert isinstance(pairs[1][1]._step, PerLayer)
    return pairs


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def compare_steps(
    pairs: list[tuple[nn.Module, StochasticQuantization]], ratios: tuple[float, ...]
) -> None:
    (fast_model, fast), (plain_model, plain) = pairs
    change = torch.Generator().manual_seed(1)
    for ratio in ratios:
        with fast.hybrid(ratio=ratio), plain.hybrid(ratio=ratio):
            assert_same(fast_model.state_dict(), plain_model.state_dict())
            assert_same(fast.state_dict()["masks"], plain.state_dict()["masks"])
        with fast.hybrid(ratio=ratio, redraw=False), plain.hybrid(ratio=ratio, redraw=False):
            assert_same(fast_model.state_dict(), plain_model.state_dict())
        with fast.quantized(), plain.quantized():
            assert_same(fast_model.state_dict(), plain_model.state_dict())
        assert_same(fast_model.state_dict(), plain_model.state_dict())
        assert torch.equal(fast.generator.get_state(), plain.generator.get_state())
        for one, other in zip(fast_model.parameters(), plain_model.parameters(), strict=True):
            noise = torch.randn(one.shape, generator=change).to(one.dtype) / 10
            with torch.no_grad():
                one.add_(noise)
                other.add_(noise)
    for one, other in zip(fast.diagnostics().values(), plain.diagnostics().values(), strict=True):
        assert torch.equal(one.error_O, other.error_O)
        assert torch.allclose(one.drawn_O, other.drawn_O)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@FOR_EACH_QUANTIZER
def test_steps_equal_the_plain_ones(quantizer: Quantizer, dtype: torch.dtype) -> None:
    compare_steps(twins(quantizer, Selection(), dtype=dtype), (0.5, 0.5, 0.0, 0.26, 0.75, 1.0))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_selection_equals_the_plain_one(function: str, strategy: str) -> None:
    compare_steps(twins(Binary(), Selection(function, strategy)), (0.5, 0.5, 0.75, 1.0))


def test_layers_with_quantizers_of_their_own_equal_the_plain_ones() -> None:
    rules = (LayerRule("0|3", Uniform(bits=4)), LayerRule("7", Ternary()))
    compare_steps(twins(Binary(), Selection(), rules=rules), (0.5, 0.9))


@FOR_EACH_QUANTIZER
@given(data=st.data())
def test_stacked_layers_equal_the_layers_one_by_one(
    quantizer: Quantizer, data: st.DataObject
) -> None:
    shapes = data.draw(
        st.lists(
            st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 17, 40])), min_size=1, max_size=5
        )
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    model = nn.ModuleList(nn.Linear(length, num_rows) for num_rows, length in shapes)
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            layer.weight[torch.rand(layer.weight.shape, generator=generator) < 0.2] = 0
    twin = copy.deepcopy(model)
    ratio = data.draw(st.sampled_from([0.25, 0.5, 1.0]))
    fast = StochasticQuantization(model, quantizer)
    plain = StochasticQuantization(twin, quantizer, step="per_layer")
    with fast.hybrid(ratio=ratio), plain.hybrid(ratio=ratio):
        assert_same(fast.state_dict()["masks"], plain.state_dict()["masks"])
        assert_same(model.state_dict(), twin.state_dict())
    errors = fast._step._by_layer(fast._step._all.error[:, 0])
    for layer, name in zip(model, errors, strict=True):
        w_OK = layer.weight.detach()
        assert torch.equal(errors[name], row_errors(w_OK, quantize_rows(w_OK, quantizer).values()))


def test_ternary_counts_are_exact_in_16_bits() -> None:
    linear = nn.Linear(2000, 16, dtype=torch.bfloat16)
    twin = copy.deepcopy(linear)
    fast = StochasticQuantization(linear, Ternary())
    plain = StochasticQuantization(twin, Ternary(), step="per_layer")
    with fast.quantized(), plain.quantized():
        assert torch.equal(linear.weight, twin.weight)
    kept = linear.weight.detach().float().abs()
    kept = torch.where(fast.codes()["weight"].codes != 0, kept, torch.nan)
    torch.testing.assert_close(
        fast.codes()["weight"].scale_O.float(), kept.nanmean(dim=1), rtol=0.01, atol=0
    )


def test_a_model_that_moved_or_changed_its_dtype_is_taken_up_with_its_rows() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), selection=Selection(strategy="fixed"))
    with sq.hybrid(ratio=0.5):
        masks = sq.state_dict()["masks"]
    model.double()
    latent = [p.detach().clone() for p in model.parameters()]
    with sq.hybrid(ratio=0.5):
        assert_same(sq.state_dict()["masks"], masks)
    assert all(map(torch.equal, model.parameters(), latent))
    model.to(memory_format=torch.preserve_format)
    model[1].bfloat16()
    with pytest.raises(QuantizationError, match="one dtype and device"), sq.quantized():
        pass


def test_a_model_of_mixed_dtypes_takes_the_plain_step() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.float64))
    sq = StochasticQuantization(model, Binary())
    assert isinstance(sq._step, PerLayer)
    with sq.hybrid(ratio=0.5):
        assert all(mask.sum() == 2 for mask in sq.state_dict()["masks"].values())


def test_one_copy_of_the_weights_is_kept_and_nothing_else_of_their_size() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    with sq.hybrid(ratio=0.5):
        pass
    weights = sum(w.numel() for w in (layer.weight for layer in model))
    stacks = sum(stack.latent_RK.numel() for stack in sq._step._stacks)
    assert stacks == weights
    tensors = [value for value in vars(sq._step).values() if isinstance(value, Tensor)]
    tensors += [getattr(sq._step._all, field.name) for field in fields(sq._step._all)]
    assert tensors
    num_rows = sum(layer.num_rows for layer in sq._layers)
    assert all(tensor.numel() <= num_rows for tensor in tensors)


def test_ratios_that_quantize_equally_many_rows_share_a_plan_and_plans_stay_few() -> None:
    sq = StochasticQuantization(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 8)), Binary())
    plans = {
        id(sq._step._draw_at(ratio)): (sq._step._draw_at(ratio), ratio) for ratio in (0.26, 0.3)
    }
    assert len(plans) == 1
    for step in range(100):  # a ratio of its own at each step
        with sq.hybrid(ratio=step / 100):
            for mask in sq.state_dict()["masks"].values():
                assert mask.sum() == math.ceil(step / 100 * len(mask) - 1e-9)
    assert len(sq._step._draws) <= 8


class HostReads(TorchDispatchMode):
    """Counts how often a value is asked for, which would wait for the device."""

    num_reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        self.num_reads += function.overloadpacket in waits
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("strategy", STRATEGIES)
@FOR_EACH_QUANTIZER
def test_the_step_of_a_device_reads_nothing_back(quantizer: Quantizer, strategy: str) -> None:
    sq = StochasticQuantization(network(), quantizer, selection=Selection(strategy=strategy))
    step = sq._step
    with torch.no_grad(), HostReads() as waiting:
        step.save()
        step._hybrid_step(step._draw_at(0.5), count=True, wait=False)  # what is captured on CUDA
        step.restore()
    assert waiting.num_reads == 0
    with HostReads() as waiting, sq.hybrid(ratio=0.5):
        pass
    assert waiting.num_reads == 1  # whether the weights are finite: on CPU at once


def test_weights_that_are_not_finite_are_told_at_the_next_look_where_a_step_waits_for_nothing() -> (
    None
):
    model = network()
    sq = StochasticQuantization(model, Binary())
    with torch.no_grad():
        sq._step.save()
        sq._step._hybrid_step(sq._step._draw_at(0.5), count=True, wait=False)
        sq._step.restore()
        sq.diagnostics()
        model[0].weight[0, 0, 0, 0] = float("nan")
        sq._step.save()
        sq._step._hybrid_step(sq._step._draw_at(0.5), count=True, wait=False)
        sq._step.restore()
    with pytest.raises(QuantizationError, match=r"0\.weight holds 1 weights"):
        sq.diagnostics()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@FOR_EACH_QUANTIZER
def test_a_captured_step_equals_the_plain_one_on_cuda(quantizer: Quantizer) -> None:
    pairs = []
    for step in ("grouped", "per_layer"):
        model = network().cuda()
        generator = torch.Generator("cuda").manual_seed(7)
        sq = StochasticQuantization(model, quantizer, generator=generator, step=step)
        pairs.append((model, sq))
    (fast_model, fast), (plain_model, plain) = pairs
    for ratio in (0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 1.0, 1.0):  # as it is, captured, replayed
        with fast.hybrid(ratio=ratio), plain.hybrid(ratio=ratio):
            assert_same(fast.state_dict()["masks"], plain.state_dict()["masks"])
            for one, other in zip(fast_model.parameters(), plain_model.parameters(), strict=True):
                assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)
