"""A graph -> one C99 header and one source: no runtime, no malloc, weights packed in flash."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod

from sqtune.deploy.c.finish import Finisher
from sqtune.deploy.c.layers import layer_call
from sqtune.deploy.c.moves import Mover
from sqtune.deploy.c.plan import Plan, plan
from sqtune.deploy.c.runtime import Functions, text
from sqtune.deploy.c.weights import Constants, number
from sqtune.deploy.graph import Graph, Layer
from sqtune.deploy.sizes.steps import Step
from sqtune.errors import ExportError


@dataclass(frozen=True, slots=True)
class CSource:
    """A network in C.

    Attributes:
        name: In front of all that the header declares.
        header: Text of NAME.h.
        source: Text of NAME.c, which includes NAME.h.
        flash_bytes: All constant data: codes, scales, biases, records, tables. Code is beside it.
        arena_bytes: Of activations.
        row_bytes: Of the buffer for one row of unpacked weights.
        image_bytes: Of an image, as `NAME_run` takes it.
        num_classes: Logits that it gives.
    """

    name: str
    header: str
    source: str
    flash_bytes: int
    arena_bytes: int
    row_bytes: int
    image_bytes: int
    num_classes: int

    @property
    def ram_bytes(self) -> int:
        """All static variables; the stack is beside them."""
        return self.arena_bytes + self.row_bytes


def c_source(graph: Graph, name: str = "model") -> CSource:
    """Return a network in C.

    Args:
        graph: The network.
        name: In front of all that the header declares, and of the files: small letters, digits
            and underscores.

    Raises:
        ExportError: It has a node that the C form does not know; the message names it.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ExportError(
            f"{name!r} cannot stand in front of C names: it takes small letters, digits and _."
        )
    planned = plan(graph)
    functions, constants = Functions(), Constants()
    finisher = Finisher(planned, functions, constants)
    mover = Mover(planned, functions, finisher)
    finishes, statements, row_bytes = [], [], 0
    for index, step in enumerate(planned.steps):
        finish = f"finish_{index}"
        finishes.append(finisher.function(step, finish))
        lines, row = _statements(planned, step, finish, functions, constants, mover)
        row_bytes = max(row_bytes, row)
        statements.append((_comment(planned, step), lines))
    sizes = CSource(
        name,
        "",
        "",
        constants.num_bytes,
        planned.arena.size_bytes,
        row_bytes,
        prod(graph.image_shape),
        len(graph.classes),
    )
    logit = finisher.element(planned.view(planned.output), "i")
    source = _source(sizes, functions, constants, finishes, statements, logit)
    return replace(sizes, header=_header(sizes, graph), source=source)


def _statements(
    planned: Plan,
    step: Step,
    finish: str,
    functions: Functions,
    constants: Constants,
    mover: Mover,
) -> tuple[list[str], int]:
    """Return the statements of a step and the bytes of the row buffer that it needs."""
    if step.host.kind == "image":
        return _normalised(planned.graph, finish, functions), 0
    node = planned.node(step.host)
    if isinstance(node, Layer):
        view = planned.read(step.host)
        call = layer_call(node, planned.graph, view, finish, functions, constants)
        return [call.text], call.row_bytes
    return mover.lines(step, finish), 0


def _normalised(graph: Graph, finish: str, functions: Functions) -> list[str]:
    functions.use("normalise")
    channels, *size = graph.image_shape
    count = prod(size)
    return [
        f"normalise(image, {channel * count}, {count}, {number(graph.pixel_mean_C[channel])}, "
        f"{number(graph.pixel_scale_C[channel])}, {finish});"
        for channel in range(channels)
    ]


def _comment(planned: Plan, step: Step) -> str:
    if step.host.kind == "image":
        return "image"
    names = [planned.node(each).name for each in (step.host, *step.extras)]
    shown = ", ".join(dict.fromkeys(name for name in names if name))
    return re.sub(r"[^\w., -]", "_", shown)


def _header(sizes: CSource, graph: Graph) -> str:
    channels, height, width = graph.image_shape
    big = sizes.name.upper()
    names = ", ".join(f'"{_escaped(name)}"' for name in graph.classes)
    return f"""/* A network in C99, written by sqtune: no other file, no malloc, not re-entrant. */
#ifndef {big}_H
#define {big}_H

#include <stdint.h>

#define {big}_CHANNELS {channels}
#define {big}_HEIGHT {height}
#define {big}_WIDTH {width}
#define {big}_IMAGE_BYTES {sizes.image_bytes}
#define {big}_CLASSES {sizes.num_classes}
/* const char *const names[{big}_CLASSES] = {big}_CLASS_NAMES; */
#define {big}_CLASS_NAMES {{{names}}}
/* Constant data in {sizes.name}.c, and its static variables; code and stack are beside them. */
#define {big}_FLASH_BYTES {sizes.flash_bytes}
#define {big}_RAM_BYTES {sizes.ram_bytes}

#ifdef __cplusplus
extern "C" {{
#endif

/* The logits of an image: channels x height x width, a byte of 0 to 255 each. All calls share one
   block of static memory: one call must end before another begins. */
void {sizes.name}_run(const uint8_t image[{big}_IMAGE_BYTES], float logits[{big}_CLASSES]);

/* The index of the class with the largest logit. */
int {sizes.name}_predict(const uint8_t image[{big}_IMAGE_BYTES]);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(
    sizes: CSource,
    functions: Functions,
    constants: Constants,
    finishes: list[str],
    statements: list[tuple[str, list[str]]],
    logit: str,
) -> str:
    big = sizes.name.upper()
    math = "#include <math.h>\n" if functions.needs_math else ""
    rows = (
        f"/* The weights of one output channel. */\nstatic int8_t unpacked[{sizes.row_bytes}];\n"
        if sizes.row_bytes
        else ""
    )
    ram = "sizeof arena" + (" + sizeof unpacked" if sizes.row_bytes else "")
    flash = " + ".join(f"sizeof {name}" for name in constants.names) or "0"
    body = ""
    for comment, lines in statements:
        inner = "\n".join(f"        {line}" for line in lines)
        body += f"    {{ /* {comment} */\n{inner}\n    }}\n"
    return f"""/* {sizes.name}.h says how to call it. */
#include "{sizes.name}.h"

{math}#include <stddef.h>
#include <stdint.h>

/* Activations, each at the place that was planned for it. */
static float arena[{sizes.arena_bytes // 4}];
#define AT(offset) ((void *)((uint8_t *)arena + (offset)))
{rows and f"/* Weights of one output channel. */{chr(10)}{rows}"}
{text("types")}
{constants.text()}
/* What the header says is what there is. */
typedef char flash_as_declared[({flash}) == {big}_FLASH_BYTES ? 1 : -1];
typedef char ram_as_declared[({ram}) == {big}_RAM_BYTES ? 1 : -1];

{functions.text()}
{chr(10).join(finishes)}
static void infer(const uint8_t image[{big}_IMAGE_BYTES])
{{
{body}}}

void {sizes.name}_run(const uint8_t image[{big}_IMAGE_BYTES], float logits[{big}_CLASSES])
{{
    size_t i;
    infer(image);
    for (i = 0; i < {big}_CLASSES; i++) {{
        logits[i] = {logit};
    }}
}}

int {sizes.name}_predict(const uint8_t image[{big}_IMAGE_BYTES])
{{
    float largest = 0.0f;
    int found = 0;
    size_t i;
    infer(image);
    for (i = 0; i < {big}_CLASSES; i++) {{
        const float logit = {logit};
        if (i == 0 || logit > largest) {{
            largest = logit;
            found = (int)i;
        }}
    }}
    return found;
}}
"""


def _escaped(name: str) -> str:
    """Return a string in C: UTF-8, bytes that C could misread in octal."""
    shown = ""
    for byte in name.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        shown += chr(byte) if plain else f"\\{byte:03o}"
    return shown
