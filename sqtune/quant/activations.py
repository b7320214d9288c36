"""Low-bit activations: the inputs of quantized layers on a grid with a learned clipping point.

Sources: `lsq`: Esser et al., "Learned Step Size Quantization", ICLR 2020. `pact`: Choi et al.,
"PACT: Parameterized Clipping Activation", 2018. Inputs that are never negative in the first batch
(behind a ReLU) use an unsigned grid of 2**bits levels, others a signed one of 2**bits - 1.

A hook in front of each layer does it, inside `hybrid()` and `quantized()` only: outside, the model
is the plain float one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from sqtune.errors import QuantizationError
from sqtune.quant.layers import QUANTIZABLE, quantizable_modules
from sqtune.quant.spec import Activations, Clipping, Float, Quantizer

SMALLEST = 1e-8  # step or ceiling, which an optimizer may push to 0 and below
DEVIATIONS = 3  # above the mean, where a PACT ceiling starts: some inputs are clipped there


class InputQuantizer(nn.Module):
    """Quantizes one layer's inputs; a forward pre-hook.

    Args:
        bits: 2 to 8.
        clipping: What is learned: the step (`lsq`) or the ceiling (`pact`).
        device: Of the model.
        process_group: Whose processes train one model together. A copy trains alone.
    """

    low: Tensor
    top: Tensor

    def __init__(
        self,
        bits: int,
        clipping: Clipping,
        device: torch.device,
        process_group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.bits, self.clipping, self.process_group = bits, clipping, process_group
        self.learned = nn.Parameter(torch.ones((), device=device))
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("top", torch.ones((), device=device))
        self.active = False
        self.for_good = False
        self.started = False

    def __getstate__(self) -> dict[str, Any]:
        """Copy what is learned; whoever copies a model inside a block gets a float one."""
        return {**self.__dict__, "process_group": None, "active": self.for_good}

    def forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Quantize the layer's input where that is wanted."""
        del module
        if not self.active:
            return None
        if not args:
            return args, {**kwargs, "input": self._quantized(kwargs["input"])}
        return (self._quantized(args[0]), *args[1:]), kwargs

    def _quantized(self, x: Tensor) -> Tensor:
        if not self.started:
            self.start(x.detach())
        return self.quantize(x)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take sign and first clipping point from a batch, without waiting for the device.

        `lsq`: a step of 2 mean|x| / sqrt(largest level), as in LSQ; `pact`: a ceiling three
        standard deviations above the mean |x|. Both are of the inputs that are not zero.
        """
        if x.numel() == 0:
            return
        size = x.float().abs()
        sums = torch.stack([size.sum(), size.square().sum(), (size != 0).sum().float()])
        lowest = x.float().amin()
        if self.process_group is not None:
            distributed.all_reduce(sums, group=self.process_group)
            distributed.all_reduce(lowest, distributed.ReduceOp.MIN, group=self.process_group)
        signed = (lowest < 0).float()
        self.top.copy_(2.0**self.bits - 1 - signed * 2.0 ** (self.bits - 1))
        self.low.copy_(0 - self.top * signed)
        mean, square = sums[:2] / sums[2].clamp(min=1)
        if self.clipping == "lsq":
            first = 2 * mean / self.top.sqrt()
        else:
            first = mean + DEVIATIONS * (square - mean.square()).clamp(min=0).sqrt()
        self.learned.copy_(first.clamp(min=SMALLEST))
        self.started = True

    def quantize(self, x: Tensor) -> Tensor:
        """Return x on its grid, in x's dtype; gradients as the sources say."""
        rounding = _Ceiling if self.clipping == "pact" else _Step
        quantized: Tensor = rounding.apply(x, self.learned, self.low, self.top)
        return quantized


class _Step(torch.autograd.Function):
    """LSQ: x / step, clipped to low..top, rounded, times step.

    Its gradients are written down (eq. 3 and section 2.2: that of the step is divided by
    sqrt(inputs * top)), since those that autograd finds keep several copies of x, and cost as much
    as the layer itself.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: Tensor, top: Tensor) -> Tensor:
        """Return x on the grid, in its dtype."""
        ctx.save_for_backward(x, step, low, top)
        return (x.float() / step).clamp_(low, top).round_().mul_(step).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x, where nothing is clipped, and of the step."""
        x, step, low, top = ctx.saved_tensors
        grad_x = grad_step = None
        levels = x.float() / step
        clipped = levels.clamp(low, top)
        inside = levels == clipped
        if ctx.needs_input_grad[0]:
            grad_x = grad * inside
        if ctx.needs_input_grad[1]:
            change = clipped.round_().sub_(levels.mul_(inside))
            grad_step = change.mul_(grad).sum() * (x.shape[1:].numel() * top).rsqrt()
        return grad_x, grad_step, None, None


class _Ceiling(torch.autograd.Function):
    """PACT: x clipped to ceiling * low / top..ceiling, rounded to multiples of ceiling / top."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: Tensor, low: Tensor, top: Tensor) -> Tensor:
        """Return x on the grid, in its dtype."""
        ctx.save_for_backward(x, ceiling, low, top)
        step = ceiling / top
        return (
            x.float()
            .clamp(ceiling * (low / top), ceiling)
            .div_(step)
            .round_()
            .mul_(step)
            .to(x.dtype)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x, where nothing is clipped, and of the ceiling, elsewhere."""
        x, ceiling, low, top = ctx.saved_tensors
        grad_x = grad_ceiling = None
        values, lowest = x.float(), low / top  # 0 or -1 ceilings
        above, below = values > ceiling, values < ceiling * lowest
        if ctx.needs_input_grad[0]:
            grad_x = grad * ~(above | below)
        if ctx.needs_input_grad[1]:
            grad_ceiling = (grad.float() * (above + below * lowest)).sum()
        return grad_x, grad_ceiling, None, None


class LowBitActivations:
    """The input quantizers of a model's quantized layers.

    Args:
        model: Its layers get a hook each, as do those that share a weight with one.
        assigned: The quantizer of every layer, by module name; layers that are Float keep their
            inputs as they are.
        spec: Bits and clipping.
        process_group: Whose processes train one model together.

    Raises:
        QuantizationError: A layer's inputs are quantized already.
    """

    def __init__(
        self,
        model: nn.Module,
        assigned: Mapping[str, Quantizer],
        spec: Activations,
        process_group: distributed.ProcessGroup | None = None,
    ) -> None:
        self.quantizers: dict[str, InputQuantizer] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._trained = False
        modules = quantizable_modules(model)
        names = list(modules)
        for name, module in modules.items():
            bits = spec.ends_bits if name in (names[0], names[-1]) else spec.bits
            if isinstance(assigned[name], Float) or bits == 32:
                continue
            weight = module.get_parameter("weight")
            quantizer = InputQuantizer(bits, spec.clipping, weight.device, process_group)
            self.quantizers[name] = quantizer
            for user in model.modules():
                if getattr(user, "weight", None) is weight and isinstance(user, QUANTIZABLE):
                    _refuse_second(name, user)
                    hook = user.register_forward_pre_hook(quantizer.forward, with_kwargs=True)
                    self._handles.append(hook)

    def switch_on(self, *, training: bool) -> None:
        """Quantize from here on.

        Clipping points start from the first training batch; a block before that, such as an
        evaluation during a float warm-up, starts them from its own first batch.
        """
        for quantizer in self.quantizers.values():
            quantizer.started = quantizer.started and self._trained
            quantizer.active = True
            with torch.no_grad():  # not below 0, whatever an optimizer did
                quantizer.learned.abs_().clamp_(min=SMALLEST)
        self._trained = self._trained or training

    def switch_off(self) -> None:
        """Leave inputs as they are from here on, unless they are quantized for good."""
        for quantizer in self.quantizers.values():
            quantizer.active = quantizer.for_good

    def stay_on(self) -> None:
        """Quantize for good."""
        self.switch_on(training=False)
        for quantizer in self.quantizers.values():
            quantizer.for_good = True

    def detach(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learned, one number a layer."""
        return [quantizer.learned for quantizer in self.quantizers.values()]

    def state_dict(self) -> dict[str, Any]:
        """Return learned clipping points and grids by layer."""
        layers = {
            name: {
                "started": quantizer.started,
                **{key: value.clone() for key, value in quantizer.state_dict().items()},
            }
            for name, quantizer in self.quantizers.items()
        }
        return {"trained": self._trained, "layers": layers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._trained = state["trained"]
        for name, quantizer in self.quantizers.items():
            tensors = dict(state["layers"][name])
            quantizer.started = tensors.pop("started")
            quantizer.load_state_dict(tensors)


def _refuse_second(name: str, module: nn.Module) -> None:
    for hook in module._forward_pre_hooks.values():
        if isinstance(getattr(hook, "__self__", None), InputQuantizer):
            raise QuantizationError(
                f"{name}: its inputs are quantized by another StochasticQuantization already. "
                "Call its detach() first."
            )
