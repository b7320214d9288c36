"""Equal classes pass, ties are counted, and what rounding does not explain is an error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from small_networks import images, small_graph

from sqtune.deploy import proof
from sqtune.deploy.checks import predictions
from sqtune.deploy.checks.predictions import (
    FLOAT_ACTIVATIONS,
    LOW_BIT_ACTIVATIONS,
    check_predictions,
    compare_logits,
    tolerance_of,
)
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.onnx.reference import reference_run
from sqtune.deploy.run import run
from sqtune.errors import ExportError
from sqtune.quant import Activations, Binary, Uniform

WHAT = "model.onnx"


def logits_of(num: int = 40) -> np.ndarray:
    logits = np.zeros((num, 3), np.float32)
    logits[:, 1] = 10  # class 1, by far
    return logits


def test_equal_logits_agree():
    found = compare_logits(logits_of(), logits_of(), FLOAT_ACTIVATIONS, WHAT)
    assert (found.num_images, found.num_equal, found.num_ties, found.num_moved) == (40, 40, 0, 0)
    assert found.max_difference == 0
    assert "40 of 40 classes equal, 0 ties" in str(found)


def test_two_logits_closer_than_rounding_are_a_tie():
    torch_logits, found = logits_of(), logits_of()
    torch_logits[7, 2] = np.float32(10 - 5e-5)  # 5e-6 of the largest
    found[7] = [0, 10 - 5e-5, 10]
    agreement = compare_logits(found, torch_logits, FLOAT_ACTIVATIONS, WHAT)
    assert (agreement.num_ties, agreement.num_equal) == (1, 39)


def test_beyond_rounding_the_image_both_classes_and_margins_are_named():
    torch_logits, found = logits_of(), logits_of()
    torch_logits[7, 2] = np.float32(10 - 4e-4)
    found[7] = [0, 10, 10 + 2e-4]
    with pytest.raises(ExportError, match="for 1 of 40 images: image 7 is class 2, not 1") as error:
        compare_logits(found, torch_logits, FLOAT_ACTIVATIONS, WHAT)
    assert "by a margin of 0.0002; torch's is 0.0004, and rounding explains up to 0.0001" in str(
        error.value
    )


def test_logits_that_are_off_are_refused_though_classes_agree():
    found = logits_of()
    found[3, 0] = 0.01
    with pytest.raises(ExportError, match=r"for 1 of 40 images: by up to 0.01 \(image 3\)"):
        compare_logits(found, logits_of(), FLOAT_ACTIVATIONS, WHAT)


def test_few_images_may_have_a_moved_level_where_activations_have_few():
    torch_logits, found = logits_of(), logits_of()
    torch_logits[5, 2] = 9.8
    found[5] = [1, 9.9, 10]  # a tie by a moved level
    found[6, 0] = 2
    agreement = compare_logits(found, torch_logits, LOW_BIT_ACTIVATIONS, WHAT)
    assert (agreement.num_ties, agreement.num_moved) == (1, 2)
    found[7, 0] = 0.1
    with pytest.raises(ExportError, match="other logits than torch for 3 of 40 images"):
        compare_logits(found, torch_logits, LOW_BIT_ACTIVATIONS, WHAT)
    found[6:8, 0] = 0
    found[5] = [1, 9.5, 9.9]
    torch_logits[5, 2] = 8
    with pytest.raises(ExportError, match="image 5 is class 2, not 1"):
        compare_logits(found, torch_logits, LOW_BIT_ACTIVATIONS, WHAT)
    found[5] = [4, 10, 8]
    with pytest.raises(ExportError, match=r"by up to 4 \(image 5\)"):
        compare_logits(found, torch_logits, LOW_BIT_ACTIVATIONS, WHAT)


def test_the_manifest_says_which_bounds_hold():
    assert tolerance_of("float") == FLOAT_ACTIVATIONS
    assert tolerance_of("trained") == tolerance_of("int8") == LOW_BIT_ACTIVATIONS


def test_where_more_activations_are_rounded_more_images_may_have_a_moved_level():
    """ResNet-20 of 10 channels had moved levels in up to 12.1 % of the images."""
    assert tolerance_of("float", 133_672) == FLOAT_ACTIVATIONS
    assert tolerance_of("trained", 7_000) == LOW_BIT_ACTIVATIONS
    many = tolerance_of("trained", 133_672)
    assert 0.12 < many.moved < 0.5
    assert replace(many, moved=LOW_BIT_ACTIVATIONS.moved) == LOW_BIT_ACTIVATIONS
    torch_logits, found = logits_of(), logits_of()
    found[:12, 0] += 0.1
    with pytest.raises(ExportError, match="for 12 of 40 images"):
        compare_logits(found, torch_logits, LOW_BIT_ACTIVATIONS, WHAT)
    assert compare_logits(found, torch_logits, many, WHAT).num_moved == 12
    found[:, 0] += 0.1  # one wrong weight moves nearly all
    with pytest.raises(ExportError, match="for 40 of 40 images"):
        compare_logits(found, torch_logits, many, WHAT)


def test_a_proof_allows_as_many_as_its_graph_rounds(monkeypatch):
    graph, _ = small_graph(Uniform(2), activations=Activations(4))
    wide, _ = small_graph(Uniform(2), shape=(3, 24, 24), activations=Activations(4))
    monkeypatch.setattr(predictions, "MOVED_LEVELS", 0.1 / graph.num_rounded)
    assert proof.tolerance_of(graph).moved == pytest.approx(1 - math.exp(-0.1))
    assert proof.tolerance_of(wide).moved == pytest.approx(1 - math.exp(-0.4), rel=1e-2)


def test_runs_that_fail_or_give_something_else():
    pixels, logits = images(4).numpy(), logits_of(4)

    def breaks(pixels):
        raise RuntimeError("status 1\nmore")

    for gives, message in [
        (breaks, "model.onnx cannot be run: status 1. The file"),
        (lambda pixels: logits[:3], r"float32 of shape \(3, 3\), not float32 logits of shape"),
        (lambda pixels: logits.astype(np.float64), "gives float64"),
        (lambda pixels: np.full_like(logits, np.nan), "not finite for image 0"),
        (lambda pixels: np.full_like(logits, np.inf), "not finite for image 0"),
    ]:
        with pytest.raises(ExportError, match=message):
            check_predictions(gives, pixels, logits, FLOAT_ACTIVATIONS, WHAT)


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", [Binary(), Uniform(bits=2), Uniform(bits=3)], ids=str)
def test_the_reference_evaluator_is_a_third_opinion(quantizer, form):
    graph, _ = small_graph(quantizer)
    pixels = images(8)
    logits = run(graph, pixels).numpy()
    third = reference_run(onnx_file(graph, form).data)
    found = check_predictions(third, pixels.numpy(), logits, FLOAT_ACTIVATIONS, WHAT)
    assert (found.num_images, found.num_equal) == (8, 8)
    with pytest.raises(ExportError, match=r"(classes|logits) than torch"):
        check_predictions(third, pixels.numpy(), logits[::-1], FLOAT_ACTIVATIONS, WHAT)


def test_what_the_reference_evaluator_cannot_read():
    pixels, logits = images(8).numpy(), logits_of(8)
    with pytest.raises(ExportError, match="cannot be run"):
        check_predictions(reference_run(b"no model"), pixels, logits, FLOAT_ACTIVATIONS, WHAT)
