"""One export from start to end: trace, write, prove, measure, and only then give it its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from sqtune.data.batches import EVALUATION_BATCH
from sqtune.data.prepare import prepare
from sqtune.data.split import Split
from sqtune.deploy.checking import VERIFY
from sqtune.deploy.checks.seal import MANIFEST, sealed
from sqtune.deploy.checks.stored_images import StoredImages, to_npz
from sqtune.deploy.exported import MODEL_FILES
from sqtune.deploy.folder import new_folder, refuse_taken, sha256
from sqtune.deploy.forms import runs, write_form
from sqtune.deploy.graph import Graph, Quantize
from sqtune.deploy.manifest import ActivationForm, Form, Source, manifest
from sqtune.deploy.measures.measure import measure
from sqtune.deploy.proof import as_data, prove, prove_on_cortex_m, prove_onnx
from sqtune.deploy.readme import readme
from sqtune.deploy.run import run
from sqtune.deploy.runtime import Logits, Pixels, Run
from sqtune.deploy.sizes.footprint import footprint
from sqtune.deploy.subject import Subject, open_subject
from sqtune.deploy.verify import verify_folder
from sqtune.errors import ExportError, did_you_mean
from sqtune.networks.by_factory import code_of
from sqtune.provenance import provenance
from sqtune.train.checkpoint import load_network

Say = Callable[[str], object]
CALIBRATION_IMAGES = 1024
MOST_BYTES = 256 << 20  # of the images of a streamed set that it is proven on, a split
VERIFY_IMAGES, VERIFY_BYTES = 1000, 8 << 20  # of the images that the folder keeps
MOST_LOST = 0.005  # of error (0..1), by whole-number activations, before it is said
README = "README.md"
BITS = {"int8": 8, "int4": 4, "int2": 2}


@dataclass(frozen=True, slots=True)
class Request:
    """What to export, and how.

    Attributes:
        network: Folder of the trained network.
        data: Folder of prepared data sets; None reads the data anew.
        out: The folder to write.
        form: Of the file.
        activations: "trained", or the whole numbers to calibrate.
        source: Where the network comes from.
        force: Whether `out` may be an exported folder, which is replaced.

    Raises:
        ExportError: Form or activations are not known.
    """

    network: Path
    data: Path | None
    out: Path
    form: Form
    activations: ActivationForm
    source: Source
    force: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("form", self.form, get_args(Form)),
            ("activations", self.activations, ("trained", *BITS)),
        ):
            if value not in known:
                raise ExportError(
                    f"{name}: {value!r} is unknown. {did_you_mean(str(value), known)}"
                )


def export(request: Request, say: Say = print) -> dict[str, Any]:
    """Export a network; returns the manifest.

    Args:
        request: What and how.
        say: Told a line at each step.

    Raises:
        ExportError: It cannot be exported, or the file does not give the network's predictions.
        StoreError: The trained network is missing something or damaged.
        DataError: Its images cannot be read.
    """
    refuse_taken(request.out, force=request.force)
    splits = prepare(load_network(request.network).config.data, request.data).sampled(MOST_BYTES)
    subject = open_subject(request.network, splits)
    if not subject.saved.same_code:
        say("warning: the code that builds the network has changed since it was trained")
    graph, activations = _with_activations(subject, request)
    pixels, labels = splits.validation.images.numpy(), splits.validation.labels.numpy()
    expected = subject.logits.numpy()
    if graph is not subject.graph:
        expected = _logits(graph, splits.validation)
    written = write_form(subject, graph, request.form)
    with new_folder(request.out, force=request.force) as folder:
        for name, data in written.files.items():
            (folder / name).write_bytes(data)
        model = folder / MODEL_FILES[request.form]
        ways = runs(folder, request.form, len(graph.classes), run_factory=True)
        proof = prove(ways, graph, pixels, expected, model.name)
        if request.form in ("onnx", "native"):
            proof |= prove_onnx(model, graph, request.form, pixels, expected)
        target = None
        if written.c_source is not None:
            more, target = prove_on_cortex_m(written.c_source, graph, pixels, expected)
            proof |= more
        for way, found in proof.items():
            say(f"{way:10} {found}")
        size = {**measure(written, graph, request.form), **_predicted(subject, request)}
        (folder / VERIFY).write_bytes(_sample(pixels, labels, expected))
        content = manifest(
            graph,
            form=request.form,
            activations=activations,
            source=request.source,
            provenance=provenance(),
            config=subject.saved.config.nested(),
            code=code_of(subject.saved.config.network),
            placements=written.placements,
            runtime=written.runtime,
            errors=_errors(subject, next(iter(ways.values()))),
            verification={way: as_data(found) for way, found in proof.items()},
            size={**size, "target": target},
        )
        _say_errors(content["errors"], say)
        _warn(content["errors"], say)
        (folder / README).write_text(readme(content), encoding="utf-8")
        names = (*written.files, VERIFY, README)
        content["sha256"] = {name: sha256(folder / name) for name in names}
        (folder / MANIFEST).write_text(sealed(content), encoding="utf-8")
        verify_folder(folder, run_factory=True)
    return content


def _with_activations(subject: Subject, request: Request) -> tuple[Graph, ActivationForm]:
    """Return the graph with the inputs of layers as they were asked for."""
    trained = any(isinstance(node, Quantize) for node in subject.graph.nodes)
    if request.activations == "trained":
        return subject.graph, "trained" if trained else "float"
    if request.form == "torch":
        raise ExportError(
            "--form torch gives the network back as it was trained: leave --activations out."
        )
    from sqtune.deploy.integers.calibrate import calibrate

    images = subject.splits.train.images
    step = max(1, len(images) // CALIBRATION_IMAGES)
    chosen = images[::step][:CALIBRATION_IMAGES]
    return calibrate(subject.graph, chosen, BITS[request.activations]), request.activations


def _predicted(subject: Subject, request: Request) -> dict[str, Any]:
    """Return what a search predicts of the size; None where it predicts nothing of such a file."""
    if request.form not in ("onnx", "c") or request.activations != "trained":
        return {"predicted_bytes": None, "predicted_ram_bytes": None}
    about = subject.saved.about
    found = footprint(
        subject.saved.config,
        in_channels=about.num_channels,
        num_classes=len(about.classes),
        image_size=about.image_size,
        form=request.form,
    )
    ram_bytes = found.ram_bytes if request.form == "c" else None
    return {"predicted_bytes": found.size_bytes, "predicted_ram_bytes": ram_bytes}


def _say_errors(errors: dict[str, Any], say: Say) -> None:
    say(
        f"{'error':10} validation {100 * errors['validation']:.2f} % of "
        f"{errors['num_validation']:,} images (trained network "
        f"{100 * errors['validation_torch']:.2f} %), test {100 * errors['test']:.2f} % of "
        f"{errors['num_test']:,}, measured with the file"
    )


def _logits(graph: Graph, split: Split) -> Logits:
    batches = [run(graph, batch) for batch in split.images.split(EVALUATION_BATCH)]
    return torch.cat(batches).numpy()


def _errors(subject: Subject, run_file: Run) -> dict[str, Any]:
    """Return errors (0..1) on the validation split and, measured once with the file, on the test's.

    `validation_torch` is the trained network's own: with its activations as they were trained.
    """
    validation, test = subject.splits.validation, subject.splits.test
    own = subject.logits.argmax(dim=1) != validation.labels
    return {
        "validation": _error(run_file, validation),
        "num_validation": len(validation),
        "validation_torch": float(own.double().mean()),
        "test": _error(run_file, test),
        "num_test": len(test),
    }


def _error(run_file: Run, split: Split) -> float:
    wrong = run_file(split.images.numpy()).argmax(axis=1) != split.labels.numpy()
    return float(wrong.mean())


def _sample(pixels: Pixels, labels: Any, logits: Logits) -> bytes:
    """Return what the folder keeps to be verified by: images spread evenly over the split."""
    most = max(1, min(VERIFY_IMAGES, VERIFY_BYTES // pixels[0].nbytes, len(pixels)))
    chosen = np.linspace(0, len(pixels) - 1, most).round().astype(np.int64)
    return to_npz(StoredImages(pixels[chosen], labels[chosen], logits[chosen]))


def _warn(errors: dict[str, Any], say: Say) -> None:
    """Say where whole-number activations cost more than half a point."""
    lost = errors["validation"] - errors["validation_torch"]
    if lost > MOST_LOST:
        say(
            f"warning: the error is {100 * lost:.2f} points above the trained network's. Take more "
            "bits (--activations int8), or train with low-bit activations (activation_bits)."
        )
