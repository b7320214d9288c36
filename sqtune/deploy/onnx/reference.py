"""onnx's reference evaluator as a third opinion, beside torch and ONNX Runtime.

Plain numpy, operator by operator as the standard describes them, and slow: for a few images.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from sqtune.deploy.runtime import IMAGE_INPUT, LOGITS_OUTPUT, Logits, Pixels, Run


def reference_run(model: bytes) -> Run:
    """Return what gives an ONNX file's logits by the reference evaluator.

    What it cannot read or run raises errors of many kinds when images are given to it;
    `check_predictions` makes them ExportError.
    """

    def run(pixels: Pixels) -> Logits:
        evaluator = ReferenceEvaluator(onnx.load_from_string(model))
        results: Any = evaluator.run([LOGITS_OUTPUT], {IMAGE_INPUT: pixels})
        logits: Logits = results[0]
        return logits

    return run
