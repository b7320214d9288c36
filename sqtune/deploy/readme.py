"""README.md of an exported folder: what it is and the lines that run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PYTHON = """\
```python
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

classes = {classes}
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
image = Image.open("image.png").convert("{mode}")
image = {fit}
pixels = np.asarray(image, dtype=np.uint8).reshape({height}, {width}, {channels})
logits = session.run(["logits"], {{"image": pixels.transpose(2, 0, 1)[None]}})[0]
print(classes[int(logits[0].argmax())])
```
"""

TORCH = """\
```python
import torch

import sqtune

model = sqtune.load(".")
logits = model(torch.zeros(1, {channels}, {height}, {width}, dtype=torch.uint8))
print(model.classes[int(logits.argmax())])
```
"""

C = """\
```c
#include <stdio.h>

#include "model.h"

static const char *const classes[] = MODEL_CLASS_NAMES;
static uint8_t image[MODEL_IMAGE_BYTES]; /* {channels} planes of {height} rows of {width} pixels */

int main(void) {{
    printf("%s\\n", classes[model_predict(image)]);
    return 0;
}}
```

    cc -O2 main.c model.c -lm
"""

RUNS = {"onnx": PYTHON, "native": PYTHON, "torch": TORCH, "c": C}
NEEDS = {
    "onnx": "ONNX Runtime {oldest} or newer",
    "native": "a compiler or runtime that knows INT4 and INT2 tensors (ONNX Runtime {oldest} does)",
    "torch": "sqtune and torch",
    "c": "a C99 compiler",
}


def readme(manifest: Mapping[str, Any]) -> str:
    """Return the text for an exported folder."""
    form, source, errors = manifest["form"], manifest["source"], manifest["errors"]
    channels, height, width = manifest["input"]["shape"]
    runtime = manifest["runtime"] or {}
    name = source["study"] or "network"
    trial = "" if source["trial"] is None else f", trial {source['trial']}"
    run = RUNS[form].format(
        classes=list(manifest["classes"]) if len(manifest["classes"]) <= 20 else "...",
        mode="RGB" if channels == 3 else "L",
        channels=channels,
        height=height,
        width=width,
        fit=_fit(height, width, manifest["config"]["data"].get("resize")),
    )
    if form in ("onnx", "native") and len(manifest["classes"]) > 20:
        run = run.replace("classes = ...", 'classes = json.load(open("manifest.json"))["classes"]')
        run = run.replace("import numpy", "import json\n\nimport numpy", 1)
    code = ""
    if form == "torch" and manifest["code"] is not None:
        code = f", and the code that builds the network, {manifest['code']['factory']}"
        run = run.replace('load(".")', 'load(".", run_factory=True)')
    lines = [
        f"# {name}{trial}",
        "",
        f"A network of {manifest['size']['weight_bits']:.2f} bits a weight for "
        f"{len(manifest['classes'])} classes, exported by sqtune {manifest['sqtune']}.",
        "",
        "| | |",
        "|---|---|",
        f"| needs | {NEEDS[form].format(oldest=runtime.get('oldest_onnxruntime', ''))}{code} |",
        *_sizes(manifest["size"]),
        f"| input | uint8 pixels, 1 x {channels} x {height} x {width}; normalised inside |",
        f"| validation error | {_percent(errors['validation'])} of "
        f"{errors['num_validation']:,} images |",
        f"| test error | {_percent(errors['test'])} of {errors['num_test']:,} images, "
        "measured once |",
        "",
        run.rstrip(),
        "",
        "`sqtune verify .` checks, here or on another machine, that the files are as they were",
        "made and give the trained network's predictions. manifest.json has where the network",
        "comes from, every layer's bits and bytes, and what was proven.",
        "",
    ]
    if form in ("onnx", "native"):
        lines[-1:] = [
            "With numpy and onnxruntime alone: `python -m sqtune.deploy.checking .`. Tools that",
            "fold constants or convert the file (onnxslim, .ort) unpack the weights: pack last.",
            "",
        ]
    return "\n".join(lines)


def _sizes(size: Mapping[str, Any]) -> list[str]:
    """Return the rows of what the file takes; of a C source flash and RAM, each by itself."""
    if size["ram_bytes"] is None:
        return [f"| size | {size['bytes']:,} bytes |"]
    rows = [f"| flash, data | {size['bytes']:,} bytes |"]
    target = size["target"]
    if target is not None:
        rows.append(f"| flash, code | {target['code_bytes']:,} bytes on a Cortex-M4 |")
    stack = "" if target is None else f", and a stack of {target['stack_bytes']:,}"
    return [*rows, f"| RAM | {size['ram_bytes']:,} bytes{stack} |"]


def _fit(height: int, width: int, resize: int | None) -> str:
    """Return how an image is brought to a network's input, as training images are measured.

    >>> _fit(224, 224, 256)
    'ImageOps.fit(image, (256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))'
    """
    if resize is None or resize == height:
        return f"ImageOps.fit(image, ({width}, {height}), Image.Resampling.BILINEAR)"
    left, top = (resize - width) // 2, (resize - height) // 2
    box = (left, top, left + width, top + height)
    return f"ImageOps.fit(image, ({resize}, {resize}), Image.Resampling.BILINEAR).crop({box})"


def _percent(error: float) -> str:
    return f"{100 * error:.2f} %"
