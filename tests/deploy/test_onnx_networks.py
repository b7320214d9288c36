"""Networks of all families that can be lowered run in ONNX Runtime as they were trained."""

from __future__ import annotations

import pytest
from onnx_checks import as_its_twin, bound, close, logits
from small_networks import images, small_graph

from sqtune.networks import AlexNetBn, ResNet, Torchvision, Vgg9
from sqtune.quant import Ternary


@pytest.mark.parametrize(
    "network",
    [
        ResNet("resnet20", 4),
        ResNet("resnet110", 2),
        Vgg9(width=4),
        AlexNetBn(width=3),
        Torchvision("mobilenet_v2"),
        Torchvision("mobilenet_v3_small"),
        Torchvision("shufflenet_v2_x0_5"),
        Torchvision("squeezenet1_1"),
        Torchvision("densenet121"),
        Torchvision("googlenet"),
        Torchvision("regnet_y_400mf"),
        Torchvision("efficientnet_b0"),
        Torchvision("convnext_tiny"),
    ],
    ids=lambda network: getattr(network, "model", network.name),
)
def test_networks_of_all_kinds(network):
    side = {"torchvision": 33, "alexnet_bn": 66}.get(network.name, 13)
    shape = (3, side, side)
    graph, trained = small_graph(Ternary(), network, shape=shape)
    pictures = images(4, shape).numpy()
    file = as_its_twin(graph, pictures)
    assert len(file.data) <= bound(graph) + 100 * len(graph.nodes)
    close(logits(file.data, pictures), trained[:4].numpy(), 1e-4)
