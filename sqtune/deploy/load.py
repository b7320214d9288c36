"""`sqtune.load`: a trained network back in torch, from wherever it lies."""

from __future__ import annotations

import os

from sqtune.deploy.checks.seal import MANIFEST
from sqtune.deploy.exported import open_exported
from sqtune.deploy.torch_file import load_torch, network_of, torch_bytes
from sqtune.deploy.trained_network import TrainedNetwork
from sqtune.errors import ExportError
from sqtune.files import expanded
from sqtune.train.checkpoint import ABOUT, load_codes, load_network

INSTEAD = {
    "onnx": "an ONNX file: run it with ONNX Runtime, as its README.md shows, or sqtune predict",
    "native": "an ONNX file: run it with ONNX Runtime, as its README.md shows, or sqtune predict",
    "c": "C sources: compile them, as its README.md shows",
}


def load(path: str | os.PathLike[str], *, run_factory: bool = False) -> TrainedNetwork:
    """Return a trained network as it predicts: weights quantized, in evaluation mode, on the CPU.

    It takes uint8 images (N x C x H x W), as the exported ONNX file does, and returns logits:

        model = sqtune.load("out")
        label = model.classes[model(pixels).argmax(dim=1)[0]]

    Nothing in the files is executed, and none is a pickle. A network of your own code
    (`network.factory`) is built by that code, which the file names: allow it with `run_factory`.

    Args:
        path: model.safetensors or its folder (`sqtune export --form torch`), or the folder of a
            trained network (`sqtune train --out`, or networks/STUDY/NUMBER in a store).
        run_factory: Whether the code that the file names may be run, where a factory built it.

    Raises:
        ExportError: There is no such network, the file is damaged, or it is of another form.
        StoreError: The folder of a trained network is missing something or damaged.
        ConfigError: The factory is not there, or was not to be run; or nobody has that home folder.
    """
    path = expanded(os.fspath(path))
    if path.suffix == ".onnx":
        raise ExportError(f"{path} is {INSTEAD['onnx']}. For torch: sqtune export --form torch.")
    if not path.is_dir():
        return load_torch(path, run_factory=run_factory)
    if (path / MANIFEST).exists():
        exported = open_exported(path)
        if exported.form != "torch":
            raise ExportError(
                f"{path} holds {INSTEAD[exported.form]}. For torch: sqtune export --form torch."
            )
        return load_torch(exported.model, run_factory=run_factory)
    if (path / ABOUT).exists():
        saved = load_network(path, run_factory=run_factory)
        return network_of(torch_bytes(saved, load_codes(path)), str(path), run_factory=run_factory)
    raise ExportError(
        f"{path} holds no network: neither {MANIFEST} (sqtune export) nor {ABOUT} (sqtune train "
        "--out, or networks/STUDY/NUMBER in a store)."
    )
