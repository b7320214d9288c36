"""torchvision's models: one output, clear refusals, and imported by nobody else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision import models

from sqtune.config import TrialConfig
from sqtune.config.training import Start
from sqtune.data import ImageFolder
from sqtune.data.split import Split, Splits
from sqtune.errors import NetworkError
from sqtune.networks import ResNet18, Torchvision, build, check_fits
from sqtune.train.checkpoint import load_network
from sqtune.train.loop import saved_error, train
from sqtune.train.training import Training


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenet_v3_small", (32, 32)),
        ("squeezenet1_1", (40, 33)),
        ("alexnet", (64, 64)),
        ("googlenet", (32, 32)),
        ("inception_v3", (75, 75)),
        ("vit_b_32", (64, 64)),
    ],
)
def test_a_model_gives_one_output_in_training_and_in_evaluation(name, size):
    model = build(Torchvision(name), 3, 7, size)
    assert model.training
    images = torch.zeros(2, 3, *size)
    assert model(images).shape == model.eval()(images).shape == (2, 7)


def test_a_model_is_torchvision_s_own_with_its_number_of_classes():
    theirs = models.get_model("mobilenet_v2", weights=None, num_classes=5).state_dict()
    ours = build(Torchvision("mobilenet_v2"), 3, 5).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


def test_trying_a_model_leaves_its_statistics_and_the_generator_alone():
    state = torch.get_rng_state()
    check_fits(Torchvision("mobilenet_v3_small"), 3, 5, (32, 32))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in build(Torchvision("mobilenet_v3_small"), 3, 5).named_buffers():
        if name.endswith("num_batches_tracked"):
            assert value == 0


@pytest.mark.parametrize(
    ("name", "channels", "size", "message"),
    [
        ("mobilnet_v2", 3, (32, 32), 'no classification model "mobilnet_v2".*"mobilenet_v2"'),
        ("fasterrcnn_resnet50_fpn", 3, (64, 64), "no classification model"),
        ("raft_large", 3, (64, 64), "no classification model"),
        ("resnet34", 1, (32, 32), "resnet34 takes images of 3 channels, these have 1"),
        ("alexnet", 3, (32, 48), r"alexnet does not take images of 32x48: .*\. Take images of"),
        ("vit_b_16", 3, (40, 40), "vit_b_16 does not take images of 40x40"),
        ("vit_b_16", 3, (32, 48), "vit_b_16 does not take images of 32x48"),
        ("maxvit_t", 3, (32, 32), "maxvit_t does not take images of 32x32"),
    ],
)
def test_what_cannot_be_is_refused(name, channels, size, message):
    with pytest.raises(NetworkError, match=message) as caught:
        check_fits(Torchvision(name), channels, 10, size)
    assert "\n" not in str(caught.value)


def random_splits(size: int) -> Splits:
    generator = torch.Generator().manual_seed(0)
    parts = [
        Split(
            torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8, generator=generator),
            torch.arange(8) % 2,
        )
        for _ in range(3)
    ]
    return Splits(*parts, ("a", "b"), (0.5,) * 3, (0.3,) * 3, "random")


def test_a_model_trains_and_comes_back_from_disk(tmp_path):
    config = TrialConfig(
        data=ImageFolder("nowhere"),
        network=Torchvision("mobilenet_v3_small"),
        num_epochs=1,
        batch_size=4,
    )
    splits = random_splits(32)
    (result,) = train(config, splits=splits, save_to=tmp_path / "network", num_threads=1)
    assert saved_error(tmp_path / "network", splits, "validation") == result.val_error
    assert load_network(tmp_path / "network").config.network == Torchvision("mobilenet_v3_small")


@pytest.mark.parametrize(
    ("network", "name", "fresh"),
    [
        (Torchvision("squeezenet1_1"), "squeezenet1_1", "classifier"),
        (Torchvision("resnet18"), "resnet18", "fc"),
        (ResNet18(), "resnet18", "fc"),  # which has torchvision's names
    ],
    ids=["squeezenet1_1", "resnet18", "own resnet18"],
)
def test_a_weights_file_of_torchvision_s_starts_a_network_for_other_classes(
    network, name, fresh, tmp_path
):
    theirs = models.get_model(name, weights=None, num_classes=5).state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    config = TrialConfig(
        data=ImageFolder("nowhere"),
        network=network,
        start=Start(weights=str(tmp_path / "weights.pth"), fresh=(fresh,)),
    )
    model = Training(config, random_splits(32), torch.device("cpu")).model
    taken = [key for key in model.state_dict() if not key.startswith(f"{fresh}.")]
    assert len(taken) == len(theirs) - 2  # weight and bias of the classifier
    for key in taken:
        assert torch.equal(model.state_dict()[key], theirs[key])
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_a_size_that_does_not_fit_ends_the_training_before_it_begins():
    config = TrialConfig(data=ImageFolder("nowhere"), network=Torchvision("alexnet"))
    with pytest.raises(NetworkError, match="alexnet does not take images of 32x32"):
        next(train(config, splits=random_splits(32)))


def test_torchvision_is_imported_for_its_own_models_only():
    code = """
import sys
import sqtune.train.loop
from sqtune.config import TrialConfig
from sqtune.deploy.sizes.footprint import footprint
from sqtune.networks import ResNet, ResNet18, Torchvision, Vgg9, build
for network in ResNet("resnet8"), ResNet18(width=4), Vgg9(width=4):
    build(network, 3, 10)
    config = TrialConfig(network=network)
    footprint(config, in_channels=3, num_classes=10, image_size=(32, 32))
heavy = {"torchvision", "PIL", "torch._dynamo", "torch._inductor"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
build(Torchvision("squeezenet1_1"), 3, 10)
assert "torchvision" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
