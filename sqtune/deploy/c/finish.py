"""What a step does to each element before it stores it: a small C function per step."""

from __future__ import annotations

from math import prod

from sqtune.deploy.c.plan import Plan, View
from sqtune.deploy.c.runtime import Functions
from sqtune.deploy.c.weights import Constants, number
from sqtune.deploy.graph import Affine, Combine, Node, Pointwise, Quantize
from sqtune.deploy.sizes.steps import Operation, Step


class Finisher:
    """Writes the functions of all steps."""

    def __init__(self, plan: Plan, functions: Functions, constants: Constants) -> None:
        self._plan, self._functions, self._constants = plan, functions, constants

    def function(self, step: Step, name: str) -> str:
        """Return the function that takes element `index` of what a step's host makes."""
        lines, last = [], None
        current = step.host.writes[0]
        chain = step.extras
        if step.host.kind in ("elements", "quantize"):
            current, chain = step.host.reads[0], (step.host, *chain)
        for operation in chain:
            node = self._plan.node(operation)
            if operation is chain[-1] and isinstance(node, Quantize):
                last = node
            else:
                lines += self._applied(node, operation, current)
            current = operation.writes[0]
        lines.append(self._stored(step, last))
        body = "\n".join(f"    {line}" for line in lines)
        return f"static void {name}(float value, size_t index)\n{{\n{body}\n}}\n"

    def element(self, view: View, index: str, *, raw: bool = False) -> str:
        """Return the expression for an element of a value; `raw` is the code itself."""
        kind = self._functions.load(view)
        at = f"{index} + {view.start}" if view.start else index
        loaded = f"load_{kind}(AT({view.offset}), (ptrdiff_t)({at}))"
        if view.grid is None:
            return loaded
        return f"(float){loaded}" if raw else f"(float){loaded} * {number(view.grid.step)}"

    def _stored(self, step: Step, last: Quantize | None) -> str:
        view = self._plan.view(step.writes[0])
        self._functions.use(f"store_{view.bits}")
        store = f"store_{view.bits}(AT({view.offset}), index, "
        if view.grid is None:
            return f"{store}value);"
        if last is None:  # codes that are only moved
            return f"{store}(int)value);"
        return f"{store}{self._rounded(last)});"

    def _rounded(self, node: Quantize) -> str:
        grid = node.grid
        self._functions.use("quantized")
        return f"quantized(value, {number(grid.step)}, {grid.low}, {grid.top})"

    def _applied(self, node: Node, operation: Operation, current: int) -> list[str]:
        match node:
            case Quantize(grid=grid):
                return [f"value = (float){self._rounded(node)} * {number(grid.step)};"]
            case Pointwise(function="clip"):
                self._functions.function("clip")
                return [f"value = function_clip(value, {number(node.low)}, {number(node.top)});"]
            case Pointwise(function=function):
                return [f"value = {self._functions.function(function)}(value);"]
            case Affine():
                inner = prod(self._plan.graph.shapes[node.output][1:])
                scale = self._constants.floats(node.name, "scales", node.scale_C)
                shift = self._constants.floats(node.name, "shifts", node.shift_C)
                return [f"value = value * {scale}[index / {inner}] + {shift}[index / {inner}];"]
            case Combine(operation=what):
                sign = "+" if what == "add" else "*"
                mine = operation.reads.index(current)
                if len(set(zip(operation.reads, operation.starts, strict=True))) == 1:
                    return [f"value = value {sign} value;"]
                other = 1 - mine
                index = _repeated(self._plan, node, other)
                element = self.element(self._plan.read(operation, other), index)
                return [f"value = value {sign} {element};"]
        raise AssertionError(type(node).__name__)


def _repeated(plan: Plan, node: Node, other: int) -> str:
    """Return the index into an operand that may have 1 in some dimensions."""
    whole, shape = plan.graph.shapes[node.output], plan.graph.shapes[node.inputs[other]]
    if whole == shape:
        return "index"
    terms = []
    for dim, size in enumerate(shape):
        if size == 1:
            continue
        term = f"index / {prod(whole[dim + 1 :])}"
        if dim:
            term = f"{term} % {size}"
        inner = prod(shape[dim + 1 :])
        terms.append(f"({term}) * {inner}" if inner != 1 else f"({term})")
    return " + ".join(terms) or "0"
