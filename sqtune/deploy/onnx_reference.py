"""onnx's reference evaluator as a third opinion, beside torch and ONNX Runtime.

Plain numpy, operator by operator as the standard describes them, and slow: for a few images.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from sqtune.deploy.predictions import Agreement, Tolerance, check_predictions
from sqtune.deploy.runtime import IMAGE_INPUT, LOGITS_OUTPUT, Logits, Pixels

SAMPLE = 8


def check_by_reference(
    model: bytes,
    pixels: Pixels,
    logits: Logits,
    tolerance: Tolerance,
    num_images: int = SAMPLE,
) -> Agreement:
    """Compare an ONNX file's predictions for the first images with torch's.

    Args:
        model: The file.
        pixels: uint8, N x C x H x W.
        logits: float32, N x classes: torch's.
        tolerance: What rounding explains.
        num_images: How many of them.

    Raises:
        ExportError: The evaluator cannot run it, or gives something else than torch.
    """

    def run(pixels: Pixels) -> Logits:
        evaluator = ReferenceEvaluator(onnx.load_from_string(model))
        results: Any = evaluator.run([LOGITS_OUTPUT], {IMAGE_INPUT: pixels})
        found: Logits = results[0]
        return found

    what = "model.onnx under onnx's reference evaluator"
    return check_predictions(run, pixels[:num_images], logits[:num_images], tolerance, what)
