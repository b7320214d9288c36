"""Compares a file's predictions with torch's: equal, a tie that rounding decides, or an error.

Two runtimes add up in different orders, so logits differ in their last digits. What that explains
is bounded here, in units of the largest logit (by magnitude) of all images compared. Everything
beyond is a file that is not what was trained. Measured with ONNX Runtime 1.32 on x86 (AVX2),
optimisations on and off, and torch 2.15:

Float activations: logits were at most 2.6e-6 apart (14 networks of nine kinds, ConvNeXt the worst;
random pixels). Two logits can change places only where torch's are at most twice as far apart:
up to 1e-5 is a tie. No logit may be off by more than 1e-4.

Activations on grids: a sum that is rounded the other way moves one activation by a level, and what
follows by much more than rounding. This is rare. Of 12 trained networks (8, 4 and 2 bits; 1,797
images), with biases that are whole numbers of the unit of integer sums as the file's have to be, it
happened in 0 to 0.7 % of images, moved logits by at most 0.061 and one class in 43,128; between two
ways to run torch it moved them by up to 0.084. All other images were as near as with float
activations. One wrong weight moves nearly all images instead. So at most 5 % of images may be off
by more than 1e-4, none by more than 0.25, and only there a margin up to 0.17 is a tie, twice the
0.084. Each activation that is rounded is a chance of its own: in ResNet-20 of 10 channels for 32 x
32 pixels, which rounds 133,672 to 8 bits, levels moved in 3.3, 7.4 and 12.1 % of 5,000 images
(three trainings, the C form), and logits by at most 0.024: 0.2 to 1.0 in a million moved. So more
images may be off where 4 in a million make more than 5 %. Biases that are rounded only as the file
is written are no rounding in this sense: in the 12 networks they moved logits by more than 1e-5 in
10 to 100 % of images, and 0.2 to 6 % of classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sqtune.deploy.runtime import Logits, Pixels, Run
from sqtune.errors import ExportError

REMEDY = "The file is damaged, or this runtime computes something else; export it anew."


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What rounding explains, in units of the largest logit.

    Attributes:
        margin: Up to here two of torch's logits are a tie: either class may be predicted.
        difference: Up to here any logit of the file may be off.
        moved: Share of images (0..1, rounded up) in which a level may have moved: these may be off
            by `moved_difference`, and are ties up to `moved_margin`.
        moved_margin: See there.
        moved_difference: See there.
    """

    margin: float
    difference: float
    moved: float = 0.0
    moved_margin: float = 0.0
    moved_difference: float = 0.0


MOVED_LEVELS = 4e-6  # of the activations that are rounded: the largest share that may move

FLOAT_ACTIVATIONS = Tolerance(margin=1e-5, difference=1e-4)
LOW_BIT_ACTIVATIONS = Tolerance(1e-5, 1e-4, moved=0.05, moved_margin=0.17, moved_difference=0.25)


def tolerance_of(activations: str, num_rounded: int = 0) -> Tolerance:
    """Return the bounds for a manifest's "activations".

    Args:
        activations: "float", or how others are computed.
        num_rounded: Activations of an image that are put on a grid.
    """
    if activations == "float":
        return FLOAT_ACTIVATIONS
    moved = max(LOW_BIT_ACTIVATIONS.moved, -math.expm1(-MOVED_LEVELS * num_rounded))
    return replace(LOW_BIT_ACTIVATIONS, moved=moved)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a file's predictions compare with torch's; nothing worse than a tie was found.

    Attributes:
        num_images: All of them.
        num_ties: Images whose class differs where torch's two logits are as good as equal.
        num_moved: Images that are further off than float rounding explains: a level moved.
        max_difference: Of any logit.
        largest_logit: By magnitude.
    """

    num_images: int
    num_ties: int
    num_moved: int
    max_difference: float
    largest_logit: float

    @property
    def num_equal(self) -> int:
        """Images of the same class."""
        return self.num_images - self.num_ties

    def __str__(self) -> str:
        moved = f", {self.num_moved} with a moved level" if self.num_moved else ""
        return (
            f"{self.num_equal} of {self.num_images} classes equal, {self.num_ties} ties{moved}; "
            f"logits differ by at most {self.max_difference:.2g} (largest {self.largest_logit:.3g})"
        )


def check_predictions(
    run: Run, pixels: Pixels, logits: Logits, tolerance: Tolerance, what: str
) -> Agreement:
    """Compare the logits that `run` gives for images with torch's.

    Args:
        run: Gives the logits of images.
        pixels: uint8, N x C x H x W.
        logits: float32, N x classes: torch's, all finite.
        tolerance: What rounding explains.
        what: Names the file and how it is run, for messages.

    Raises:
        ExportError: Other classes, or other logits, than rounding explains.
    """
    try:
        found = run(pixels)
    except Exception as error:  # the runtime has an exception for each of its states
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{what} cannot be run: {reason}. {REMEDY}") from None
    if found.shape != logits.shape or found.dtype != np.float32:
        raise ExportError(
            f"{what} gives {found.dtype} of shape {found.shape}, not float32 logits of shape "
            f"{logits.shape}. {REMEDY}"
        )
    if not np.isfinite(found).all():
        index = int(np.nonzero(~np.isfinite(found).all(axis=1))[0][0])
        raise ExportError(f"{what} gives a logit that is not finite for image {index}. {REMEDY}")
    return compare_logits(found, logits, tolerance, what)


def compare_logits(found: Logits, logits: Logits, tolerance: Tolerance, what: str) -> Agreement:
    """Compare logits of the same shape, all finite; see `check_predictions`."""
    largest = max(float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))
    difference_N = np.abs(found.astype(np.float64) - logits).max(axis=1) / largest
    rows = np.arange(len(logits))
    ours_N, theirs_N = logits.argmax(axis=1), found.argmax(axis=1)
    margin_N = (logits[rows, ours_N].astype(np.float64) - logits[rows, theirs_N]) / largest
    moved_N = difference_N > tolerance.difference
    allowed_margin_N = np.where(moved_N, tolerance.moved_margin, tolerance.margin)
    wrong = np.nonzero(margin_N > allowed_margin_N)[0]
    if len(wrong):
        worst = wrong[margin_N[wrong].argmax()]
        raise ExportError(
            f"{what} predicts other classes than torch for {len(wrong)} of {len(logits)} images: "
            f"image {worst} is class {theirs_N[worst]}, not {ours_N[worst]}, by a margin of "
            f"{found[worst, theirs_N[worst]] - found[worst, ours_N[worst]]:.3g}; torch's is "
            f"{margin_N[worst] * largest:.3g}, and rounding explains up to "
            f"{allowed_margin_N[worst] * largest:.2g}. {REMEDY}"
        )
    far = difference_N.argmax()
    bound = tolerance.moved_difference if tolerance.moved else tolerance.difference
    if difference_N[far] > bound or moved_N.sum() > math.ceil(tolerance.moved * len(logits)):
        raise ExportError(
            f"{what} gives other logits than torch for {moved_N.sum()} of {len(logits)} images: by "
            f"up to {difference_N[far] * largest:.3g} (image {far}), where rounding explains "
            f"{_explained(tolerance, largest, len(logits))}. {REMEDY}"
        )
    return Agreement(
        num_images=len(logits),
        num_ties=int((ours_N != theirs_N).sum()),
        num_moved=int(moved_N.sum()),
        max_difference=float(difference_N[far] * largest),
        largest_logit=largest,
    )


def _explained(tolerance: Tolerance, largest: float, num: int) -> str:
    text = f"{tolerance.difference * largest:.2g}"
    if tolerance.moved:
        text += (
            f", and {tolerance.moved_difference * largest:.2g} for "
            f"{math.ceil(tolerance.moved * num)} of them"
        )
    return text
