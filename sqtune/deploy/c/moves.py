"""Pooling, means and what only moves elements in C: calls and loops."""

from __future__ import annotations

from itertools import accumulate
from math import prod

from sqtune.deploy.c.finish import Finisher
from sqtune.deploy.c.plan import Plan, View, unsupported
from sqtune.deploy.c.runtime import Functions
from sqtune.deploy.c.weights import number
from sqtune.deploy.graph import Concat, Mean, Node, Pad, Pool, Slice, Transpose
from sqtune.deploy.sizes.steps import Step


class Mover:
    """Writes the calls and loops of steps without weights."""

    def __init__(self, plan: Plan, functions: Functions, finisher: Finisher) -> None:
        self._plan, self._functions, self._finisher = plan, functions, finisher

    def lines(self, step: Step, finish: str) -> list[str]:
        """Return the statements of a step."""
        node = self._plan.node(step.host)
        shapes = self._plan.graph.shapes
        view = self._plan.read(step.host)
        raw = self._moves_codes(step)
        given, made = shapes[node.inputs[0]], shapes[node.output]
        match node:
            case Pool():
                return [self._pool(node, view, _step(view, raw), finish)]
            case Mean():
                name = self._functions.reading("mean", view)
                channels, count = given[0], prod(given[1:])
                where = f"AT({view.offset}), {view.start}, {_step(view, raw)}, {finish}"
                return [f"{name}({channels}, {count}, {where});"]
            case Concat(axis=axis):
                return self._concat(step, node, axis, finish, raw)
            case Slice(axis=axis, start=start):
                inner = prod(given[axis + 1 :])
                loops = [(prod(made[:axis]), given[axis] * inner), (made[axis] * inner, 1)]
                return self._copy(view, loops, start * inner, finish, raw)
            case Transpose(order=order):
                strides = [prod(given[dim + 1 :]) for dim in order]
                return self._copy(view, list(zip(made, strides, strict=True)), 0, finish, raw)
            case Pad(padding=padding):
                return self._pad(view, given, made, padding, finish, raw)
        # one element after the other; what is rounded may be a part of what its node rounds
        count = self._plan.numbers[step.writes[0]]
        element = self._finisher.element(view, "i")
        return _loops([count], [f"{finish}({element}, i);"], ["i"])

    def _moves_codes(self, step: Step) -> bool:
        made = self._plan.view(step.writes[0])
        return step.host.kind == "moves" and not step.extras and made.grid is not None

    def _pool(self, node: Pool, view: View, step: str, finish: str) -> str:
        shapes = self._plan.graph.shapes
        if len(node.kernel) != 2 or len(shapes[node.output]) != 3:
            raise unsupported(node, f"pooling over {len(node.kernel)} dimensions is not known to C")
        sizes = (*shapes[node.inputs[0]], *shapes[node.output][1:], *node.kernel, *node.stride)
        around = (node.padding[0][0], node.padding[1][0])
        numbers = ", ".join(map(str, (*sizes, *around)))
        name = self._functions.reading(f"pool_{node.kind}", view)
        return f"{name}({numbers}, AT({view.offset}), {view.start}, {step}, {finish});"

    def _copy(
        self, view: View, loops: list[tuple[int, int]], start: int, finish: str, raw: bool
    ) -> list[str]:
        """Return loops that read with strides and write in order."""
        kept = [(size, stride) for size, stride in loops if size != 1]
        names = [f"i{depth}" for depth in range(len(kept))]
        terms = [
            name if stride == 1 else f"{name} * {stride}"
            for name, (_, stride) in zip(names, kept, strict=True)
        ]
        if start:
            terms.append(str(start))
        element = self._finisher.element(view, " + ".join(terms) or "0", raw=raw)
        body = _loops([size for size, _ in kept], [f"{finish}({element}, done++);"], names)
        return ["size_t done = 0;", *body]

    def _concat(self, step: Step, node: Node, axis: int, finish: str, raw: bool) -> list[str]:
        shapes = self._plan.graph.shapes
        outer = prod(shapes[node.output][:axis])
        body = ["size_t i;"]
        for index, number_ in enumerate(node.inputs):
            count = prod(shapes[number_][axis:])
            at = f"outer * {count} + i" if outer != 1 else "i"
            element = self._finisher.element(self._plan.read(step.host, index), at, raw=raw)
            body += _for("i", count, [f"{finish}({element}, done++);"])
        return ["size_t outer, done = 0;", *_for("outer", outer, body)]

    def _pad(
        self,
        view: View,
        given: tuple[int, ...],
        made: tuple[int, ...],
        padding: tuple[tuple[int, int], ...],
        finish: str,
        raw: bool,
    ) -> list[str]:
        names = [f"i{dim}" for dim in range(len(made))]
        strides = [*accumulate(reversed(given[1:]), lambda one, other: one * other, initial=1)]
        terms, inside = [], []
        for name, size, (before, after), stride in zip(
            names, given, padding, reversed(strides), strict=True
        ):
            terms.append(f"({name} - {before}) * {stride}" if before else f"{name} * {stride}")
            inside += [f"{name} >= {before}"] if before else []
            inside += [f"{name} < {before + size}"] if after else []
        element = self._finisher.element(view, " + ".join(terms), raw=raw)
        statement = f"{finish}({' && '.join(inside)} ? {element} : 0.0f, done++);"
        return ["size_t done = 0;", *_loops(list(made), [statement], names)]


def _step(view: View, raw: bool) -> str:
    return "1.0f" if view.grid is None or raw else number(view.grid.step)


def _loops(sizes: list[int], body: list[str], names: list[str]) -> list[str]:
    for name, size in reversed(list(zip(names, sizes, strict=True))):
        body = _for(name, size, body)
    return [f"size_t {', '.join(names)};", *body] if names else body


def _for(name: str, size: int, body: list[str]) -> list[str]:
    head = f"for ({name} = 0; {name} < {size}; {name}++) {{"
    return [head, *(f"    {line}" for line in body), "}"]
