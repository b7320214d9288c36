"""Checks an exported folder, later and on any machine: `python -m sqtune.deploy.checking DIR`.

Needs numpy (1.26 or newer) and ONNX Runtime (1.16.3 or newer, as the manifest says); nothing else.
Ends with 0 where everything is as it was exported, with 1 where something is not, and with 2 where
it cannot be checked here.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqtune.deploy.checks.described import (
    MAX_MANIFEST_BYTES,
    CannotCheckError,
    Described,
    PackedLayer,
    described,
)
from sqtune.deploy.checks.folder_files import COPY, check_files, extra_files, read_file
from sqtune.deploy.checks.seal import MANIFEST
from sqtune.deploy.checks.wire import Tensor, initializers
from sqtune.errors import ExportError

if TYPE_CHECKING:  # what needs numpy is imported where it is used: its lack gets a clear message
    from sqtune.deploy.checks.predictions import Agreement

MODEL, VERIFY = "model.onnx", "verify.npz"
WHOLE, DAMAGED, UNCHECKED = 0, 1, 2  # exit codes


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, and found to be as it was exported.

    Attributes:
        folder: That was checked.
        form: "onnx" or "native".
        activations: "float", or what they are quantized to.
        num_files: Whose checksums were compared.
        num_bytes: Of these files together.
        extra_files: Names of what else lies in the folder.
        num_layers: Convolutions and linear layers, with those that stay float.
        num_packed: Of these, layers whose codes and scales were decoded and compared.
        num_codes: Of all layers.
        optimised: Predictions with graph optimisations on.
        plain: Predictions with graph optimisations off.
        runtime: ONNX Runtime's version.
        seconds: That the check took.
    """

    folder: Path
    form: str
    activations: str
    num_files: int
    num_bytes: int
    extra_files: tuple[str, ...]
    num_layers: int
    num_packed: int
    num_codes: int
    optimised: Agreement
    plain: Agreement
    runtime: str
    seconds: float


def _silent(line: str) -> None:
    """Tell nobody."""


def check_folder(folder: Path, tell: Callable[[str], None] = _silent) -> Report:
    """Check that a folder of form "onnx" or "native" is as it was exported.

    Args:
        folder: With a manifest.json.
        tell: Is given a line for each check that is passed.

    Raises:
        CannotCheckError: Nothing wrong was found, but it cannot be checked here.
        ExportError: It is not as it was exported.
        ImportError: numpy or ONNX Runtime is missing.
    """
    from sqtune.deploy.checks.predictions import check_predictions, tolerance_of
    from sqtune.deploy.checks.stored_images import stored_images
    from sqtune.deploy.runtime import open_session, runner, version

    began = time.monotonic()
    if not folder.is_dir():
        raise CannotCheckError(
            f"{folder} is no folder that can be read. Give one that sqtune export wrote."
        )
    about = described(read_file(folder, MANIFEST, at_most=MAX_MANIFEST_BYTES))
    if about.oldest_runtime is None:
        raise CannotCheckError(
            f"{folder} has form {about.form}, which ONNX Runtime does not run; "
            f"check it with: sqtune verify {folder}"
        )
    tell(f"manifest   as it was written: form {about.form}, activations {about.activations}")
    num_bytes, files = check_files(folder, about.sha256, keep=(MODEL, VERIFY))
    extra = extra_files(folder, about.sha256)
    note = f"; beside them {', '.join(extra)}" if extra else ""
    tell(f"files      {len(about.sha256)} as they were written, {num_bytes:,} bytes{note}")
    _refuse_old_runtime(about.oldest_runtime)
    tell(f"runtime    ONNX Runtime {version()}; the oldest that suits is {about.oldest_runtime}")
    num_codes = check_codes(about, initializers(files[MODEL]))
    tell(
        f"weights    {num_codes:,} codes of {len(about.packed)} layers and their scales as trained"
    )
    stored = stored_images(files[VERIFY], about.image_shape, about.num_classes)
    agreements = []
    for optimise, how in ((True, "optimised"), (False, "plain")):
        run = runner(open_session(files[MODEL], optimise=optimise))
        what = f"{MODEL} with graph optimisations {'on' if optimise else 'off'}"
        tolerance = tolerance_of(about.activations, about.num_rounded)
        found = check_predictions(run, stored.images, stored.logits, tolerance, what)
        agreements.append(found)
        tell(f"{how:10} {found}")
    return Report(
        folder=folder,
        form=about.form,
        activations=about.activations,
        num_files=len(about.sha256),
        num_bytes=num_bytes,
        extra_files=extra,
        num_layers=about.num_layers,
        num_packed=len(about.packed),
        num_codes=num_codes,
        optimised=agreements[0],
        plain=agreements[1],
        runtime=version(),
        seconds=time.monotonic() - began,
    )


def check_codes(about: Described, tensors: Mapping[str, Tensor]) -> int:
    """Decode every layer's levels and scales out of a model; return the number of codes.

    Raises:
        ExportError: Some are not those of the trained network, by the manifest's checksums.
    """
    from sqtune.deploy.checks.unpack import levels, scales

    for layer in about.packed:
        where = layer.placement
        assert where is not None
        found = levels(_tensor(tensors, where.tensor, layer), where.kind, where.first, where.count)
        scale_O = scales(_tensor(tensors, where.scale, layer), layer.shape[0])
        _compare(layer, "codes", found.tobytes(), layer.levels_sha256)
        _compare(layer, "scales", scale_O.astype("<f4").tobytes(), layer.scales_sha256)
    return sum(layer.placement.count for layer in about.packed if layer.placement)


def _tensor(tensors: Mapping[str, Tensor], name: str, layer: PackedLayer) -> Tensor:
    if name not in tensors:
        raise ExportError(f"{MODEL} has no tensor {name!a}, for layer {layer.name!a}. {COPY}")
    return tensors[name]


def _compare(layer: PackedLayer, what: str, found: bytes, wanted: str) -> None:
    if hashlib.sha256(found).hexdigest() != wanted:
        raise ExportError(
            f"{MODEL}: the {what} of layer {layer.name!a} are not those of the trained network: "
            f"their sha256 is not the one in {MANIFEST}. {COPY}"
        )


def _refuse_old_runtime(oldest: str) -> None:
    from sqtune.deploy.runtime import refuse_older_than

    try:
        refuse_older_than(oldest)
    except ExportError as error:
        raise CannotCheckError(str(error)) from None


def main(arguments: list[str]) -> int:
    """Check the folder that is named, and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m sqtune.deploy.checking DIR", file=sys.stderr)
        return UNCHECKED
    try:
        report = check_folder(Path(arguments[0]), tell=print)
    except ImportError as error:
        needed = "pip install numpy 'onnxruntime>=1.16.3'"
        print(f"error: {error}; the check needs numpy and ONNX Runtime: {needed}", file=sys.stderr)
        return UNCHECKED
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNCHECKED if isinstance(error, CannotCheckError) else DAMAGED
    print(f"{report.folder} is as it was exported ({report.seconds:.1f} seconds)")
    return WHOLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
