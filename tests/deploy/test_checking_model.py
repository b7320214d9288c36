"""A changed model is found though its checksum fits: by codes, scales or predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from exported_folders import (
    MODEL,
    read_manifest,
    refuses,
    reseal,
    write_folder,
    write_manifest,
)
from onnx import numpy_helper
from small_networks import images, small_graph

from sqtune.deploy.checking import check_folder
from sqtune.deploy.graph import Conv, Linear, Packed
from sqtune.deploy.integers.calibrate import calibrate
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.run import run
from sqtune.quant import Activations, Binary, Ternary, Uniform


def replaced(folder, change):
    """Change the model as `change` says, with all checksums of files as if nothing was."""
    model = onnx.load(folder / MODEL)
    change(model.graph)
    onnx.save(model, folder / MODEL)
    reseal(folder)


def packed_layer(folder, index=3):
    return read_manifest(folder)["layers"][index]


def test_one_flipped_code_is_found_though_the_files_checksum_fits(folder):
    where = packed_layer(folder)["placement"]

    def flip(graph):
        tensor = next(each for each in graph.initializer if each.name == where["tensor"])
        raw = bytearray(tensor.raw_data)
        raw[where["first"] // 5 + 1] ^= 1
        tensor.raw_data = bytes(raw)

    replaced(folder, flip)
    refuses(folder, "the codes of layer 'group2.0.conv1' are not those of the trained network")


def test_one_changed_scale_is_found_though_the_files_checksum_fits(folder):
    where = packed_layer(folder)["placement"]

    def nudge(graph):
        tensor = next(each for each in graph.initializer if each.name == where["scale"])
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
        tensor.raw_data = values.tobytes()

    replaced(folder, nudge)
    refuses(folder, "the scales of layer .* are not those of the trained network")


@pytest.mark.parametrize("quantizer", [Binary(), Uniform(bits=4)], ids=str)
def test_other_codes_with_all_checksums_of_their_own_give_other_predictions(tmp_path, quantizer):
    graph, logits = small_graph(quantizer)
    weight = graph.layers[4].weight
    assert isinstance(weight, Packed)
    weight.codes.flat[0] = -weight.codes.flat[0] or 1
    folder = write_folder(tmp_path / "deployed", graph, logits)
    refuses(folder, "(logits|classes) than torch for .* of 16 images")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_activations_on_grids_and_one_changed_code_behind_them(tmp_path, bits):
    graph, _ = small_graph(Uniform(bits=4), activations=Activations(bits))
    graph = without_biases(graph)  # those are rounded in the file
    logits = run(graph, images(40, graph.image_shape)).numpy()
    folder = write_folder(tmp_path / "deployed", graph, logits, activations="trained")
    report = check_folder(folder)
    assert report.activations == "trained"
    assert report.plain.num_moved + report.optimised.num_moved <= 4
    codes = graph.layers[0].weight.codes
    codes.flat[4] = 7 if codes.flat[4] < 3 else -7
    folder = write_folder(tmp_path / "other", graph, logits, activations="trained")
    refuses(folder, "(logits|classes) than torch for .* of 40 images")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_calibrated_activations(tmp_path, bits):
    graph = calibrate(small_graph(Ternary())[0], images(64), bits)
    logits = run(graph, images(40, graph.image_shape)).numpy()
    folder = write_folder(tmp_path / "deployed", graph, logits, activations=f"int{bits}")
    report = check_folder(folder)
    assert report.plain.num_moved <= 2
    assert report.num_codes == 5436


def without_biases(graph):
    nodes = [
        replace(node, bias_O=np.zeros_like(node.bias_O))
        if isinstance(node, Conv | Linear)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def test_a_changed_graph_is_found_by_its_predictions(folder):
    def no_relu(graph):
        node = next(each for each in graph.node if each.op_type == "Relu")
        node.op_type = "Abs"

    replaced(folder, no_relu)
    refuses(folder, "model.onnx with graph optimisations on (gives|predicts) other")


def test_a_graph_that_the_runtime_refuses(folder):
    def nonsense(graph):
        graph.node[-1].op_type = "Nonsense"

    replaced(folder, nonsense)
    refuses(folder, "the model cannot be loaded by ONNX Runtime")


def test_a_graph_for_other_images(tmp_path):
    graph, logits = small_graph(Binary())
    folder = write_folder(tmp_path / "deployed", graph, logits)
    (folder / MODEL).write_bytes(
        onnx_file(small_graph(Binary(), shape=(1, 12, 12))[0], "onnx").data
    )
    content = read_manifest(folder)
    write_manifest(folder, {**content, "layers": []})
    refuses(folder, "model.onnx with graph optimisations on cannot be run")
