"""Calibrated networks in real ONNX Runtime: integers throughout, and the same logits."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
import torch
from small_networks import images, small_graph, trained
from torch.nn import functional

from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.deploy.integers.calibrate import calibrate
from sqtune.deploy.lower import lower
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.run import run
from sqtune.deploy.runtime import open_session, runner
from sqtune.networks import ResNet, Torchvision, Vgg9, build
from sqtune.quant import Binary, Float, LayerRule, Ternary, Uniform


def operators(graph, tmp_path):
    """Return how often ONNX Runtime runs each operator, and what gives logits."""
    path = tmp_path / "optimised.onnx"
    session = open_session(onnx_file(graph, "onnx").data, optimised_to=path)
    return Counter(node.op_type for node in onnx.load(path).graph.node), runner(session)


def assert_nearly_all_equal(found, expected):
    """Sums exactly between two codes may be rounded either way: one code in 100,000 differs."""
    same = (found - expected).abs().amax(dim=1) < 1e-5 * expected.abs().max()
    assert same.float().mean() >= 0.5
    assert (found - expected).abs().max() < 0.05 * expected.std()


NETWORKS = [
    (ResNet("resnet8", 4), 13),
    (Vgg9(width=4), 13),
    (Torchvision("mobilenet_v2"), 33),
    (Torchvision("shufflenet_v2_x0_5"), 33),
    (Torchvision("googlenet"), 33),
]


@pytest.mark.parametrize(
    ("network", "side"), NETWORKS, ids=lambda value: getattr(value, "model", type(value).__name__)
)
def test_everything_between_image_and_logits_is_in_integers(network, side, tmp_path):
    shape = (3, side, side)
    before, _ = small_graph(Ternary(), network, shape=shape)
    pixels = images(16, shape)
    graph = calibrate(before, pixels)
    found, logits = operators(graph, tmp_path)
    num_matrices = found["QGemm"]
    assert num_matrices >= 1
    assert found["QLinearConv"] == len(graph.layers) - num_matrices
    assert found["QuantizeLinear"] == 1  # the image
    assert not {"Conv", "Gemm", "MatMul", "DequantizeLinear", "Relu", "Clip"} & set(found)
    assert_nearly_all_equal(torch.from_numpy(logits(pixels.numpy())), run(graph, pixels))


def test_a_file_with_layers_that_stay_float_keeps_their_weights(tmp_path):
    rules = (LayerRule("stem|group2[.]0[.]conv2|head", Float()),)
    graph = calibrate(small_graph(Binary(), rules=rules)[0], images(16))
    found, logits = operators(graph, tmp_path)
    assert found["QLinearConv"] == 7 - 1  # group2.0.conv1 gives its float values to conv2
    assert_nearly_all_equal(torch.from_numpy(logits(images(16).numpy())), run(graph, images(16)))


@pytest.fixture(scope="module")
def digits():
    """Return a trained network's graph with 8-bit weights, training images, and unseen ones."""
    splits = prepare(Digits())
    train, unseen = splits.train, splits.validation
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(ResNet("resnet8", 4), 1, 10, (8, 8))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(6):
            for ids in torch.randperm(len(train.images)).split(64):
                pixels = (train.images[ids].float() / 255 - 0.4) / 0.3
                loss = functional.cross_entropy(model(pixels), train.labels[ids])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    what, _ = trained(model.eval(), Uniform(bits=8), shape=(1, 8, 8))
    return lower(what), train.images, unseen


@pytest.mark.parametrize(("bits", "agreement", "noise"), [(8, 0.99, 0.03), (4, 0.95, 0.15)])
def test_a_trained_network_predicts_as_with_float_activations(
    digits, bits, agreement, noise, tmp_path
):
    before, train, unseen = digits
    graph = calibrate(before, train[:300], bits)
    wanted, found = run(before, unseen.images), run(graph, unseen.images)
    assert (wanted.argmax(1) == unseen.labels).float().mean() > 0.93
    assert (wanted.argmax(1) == found.argmax(1)).float().mean() >= agreement
    assert (found - wanted).square().mean().sqrt() < noise * wanted.std()
    _, logits = operators(graph, tmp_path)
    by_runtime = torch.from_numpy(logits(unseen.images.numpy()))
    assert (by_runtime.argmax(1) == found.argmax(1)).float().mean() > 0.995
    assert_nearly_all_equal(by_runtime, found)
