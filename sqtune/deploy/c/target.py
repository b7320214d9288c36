"""The C form on an emulated microcontroller: sizes, instructions and logits of a Cortex-M.

Cross-compiled by Debian's gcc-arm-none-eabi, run by qemu-system-arm. Instructions are counted with
the board's timer: under `-icount shift=0` a nanosecond of the emulated time passes with each of
them, and the timer ticks at 25 MHz: once in 40 instructions.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sqtune.errors import ExportError

if TYPE_CHECKING:
    from sqtune.deploy.c.source import CSource

COMPILER, SIZE, EMULATOR = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
M3 = ("-mcpu=cortex-m3", "-mthumb")
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")
LINK = ("-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs")
QUIET = ("-display", "none", "-monitor", "none", "-serial", "none")
COUNTING = ("-icount", "shift=0")
SEMIHOSTING = "enable=on,target=native,chardev=out"
PRINTING = ("-chardev", "stdio,id=out", "-semihosting-config", SEMIHOSTING)
INSTRUCTIONS_PER_TICK = 40
SECONDS = 600


@dataclass(frozen=True, slots=True, eq=False)
class TargetFigures:
    """What a network takes on a Cortex-M.

    Attributes:
        compiler: Its first line about itself, and the flags.
        code_bytes: Instructions and numbers in them (.text), without the library's functions.
        data_bytes: Constant data (.rodata), with what aligns it.
        ram_bytes: Static variables (.bss).
        stack_bytes: The most that a call used.
        instructions: Executed, for each image; to the next 40.
        logits: N x classes, float32.
    """

    compiler: str
    code_bytes: int
    data_bytes: int
    ram_bytes: int
    stack_bytes: int
    instructions: tuple[int, ...]
    logits: npt.NDArray[np.float32]


def measure_on_cortex_m(
    source: CSource,
    pixels: npt.NDArray[np.uint8],
    flags: tuple[str, ...] = FLAGS,
    *,
    floating_point: bool = True,
) -> TargetFigures | None:
    """Return a network's figures on a Cortex-M; None where the tools are not installed.

    Args:
        source: The network.
        pixels: Images, N x C x H x W, that it is run on.
        flags: Of the compiler.
        floating_point: A Cortex-M4 that has it in hardware; else a Cortex-M3, which has none.

    Raises:
        ExportError: It does not fit into the emulated board, or does not come to an end there.
    """
    if any(shutil.which(tool) is None for tool in (COMPILER, SIZE, EMULATOR)):
        return None
    core, machine = (M4, "mps2-an386") if floating_point else (M3, "mps2-an385")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write(source, pixels, folder)
        _call(COMPILER, *core, *flags, "-c", f"{source.name}.c", "-o", "model.o", cwd=folder)
        # the firmware around it may use what the compiler adds to C
        main = ("-std=gnu99", "-O2", "main.c", "model.o", "-T", "link.ld")
        _call(COMPILER, *core, *main, *LINK, "-lm", "-o", "firmware.elf", cwd=folder)
        sizes = _section_sizes(_call(SIZE, "-A", "model.o", cwd=folder))
        emulator = (EMULATOR, "-machine", machine, *QUIET, *COUNTING, *PRINTING)
        printed = _call(*emulator, "-kernel", "firmware.elf", cwd=folder)
        version = _call(COMPILER, "--version", cwd=folder).partition("\n")[0]
    rows = np.array([[int(word, 16) for word in line.split()] for line in printed.splitlines()])
    if rows.shape != (len(pixels), 2 + source.num_classes):
        raise ExportError(f"the emulated Cortex-M stopped before the end: {printed[-200:]!r}")
    return TargetFigures(
        compiler=f"{version} {' '.join((*core, *flags))}",
        code_bytes=sizes.get(".text", 0),
        data_bytes=sizes.get(".rodata", 0),
        ram_bytes=sizes.get(".bss", 0),
        stack_bytes=int(rows[:, 1].max()),
        instructions=tuple(int(ticks) * INSTRUCTIONS_PER_TICK for ticks in rows[:, 0]),
        logits=np.ascontiguousarray(rows[:, 2:].astype(np.uint32)).view(np.float32),
    )


def _write(source: CSource, pixels: npt.NDArray[np.uint8], folder: Path) -> None:
    """Write the network, the images and the firmware around them."""
    for file in ("main.c", "link.ld"):
        text = (files("sqtune.deploy.c") / "target" / file).read_text(encoding="utf-8")
        (folder / file).write_text(text, encoding="utf-8")
    rows = ",\n".join(f"{{{', '.join(map(str, image.ravel()))}}}" for image in pixels)
    (folder / "images.h").write_text(
        f'#include "{source.name}.h"\n\n'
        f"#define run_network {source.name}_run\n#define NUM_CLASSES {source.num_classes}\n"
        f"#define NUM_IMAGES {len(pixels)}\n"
        f"static const uint8_t images[NUM_IMAGES][{source.image_bytes}] = {{\n{rows}\n}};\n",
        encoding="utf-8",
    )
    (folder / f"{source.name}.h").write_text(source.header, encoding="utf-8")
    (folder / f"{source.name}.c").write_text(source.source, encoding="utf-8")


def _call(*command: str, cwd: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ExportError(f"{command[0]} was not done after {SECONDS} s.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        reason = next((line for line in lines if "overflow" in line or "error" in line), lines[0])
        raise ExportError(f"{command[0]} failed: {reason}")
    return done.stdout


def _section_sizes(printed: str) -> dict[str, int]:
    rows = (line.split() for line in printed.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[1].isdigit()}
