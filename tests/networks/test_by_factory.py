"""Networks of one's own code: what it is told, what is refused before training, and when."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from sqtune.config import TrialConfig, load_space
from sqtune.data.split import Split, Splits
from sqtune.errors import ConfigError, NetworkError, SqtuneError, StoreError
from sqtune.factories import source_sha256
from sqtune.networks import Factory, build, check_fits
from sqtune.train.checkpoint import load_network
from sqtune.train.loop import train
from sqtune.train.stages import epoch_keys

NETS = """
import torch
from torch import nn

def build(in_channels, num_classes, image_size, width=4):
    inside = width * image_size[0] * image_size[1]
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(inside, num_classes),
    )

def everything(**told):
    global seen
    seen = told
    return build(told["in_channels"], told["num_classes"], told["image_size"])

class Mine(nn.Sequential):
    def __init__(self, *, num_classes, depths):
        depths.append(num_classes)  # its own list: the configuration's does not change
        super().__init__(nn.Flatten(), nn.LazyLinear(depths[0]), nn.Linear(*depths))

def raises():
    raise RuntimeError("no weights\\nhere")

def fixed(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 7))
def normed(num_classes):
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(192, num_classes)
    )
def grey(num_classes): return nn.Sequential(nn.Conv2d(1, num_classes, 8), nn.Flatten())
def no_module(): return torch.zeros(2, 10)
def squeezed(num_classes): return Wrapped(build(3, num_classes, (8, 8)), lambda x: x[0])
def nothing(num_classes): return Wrapped(build(3, num_classes, (8, 8)), lambda x: x * torch.nan)
def whole(num_classes): return Wrapped(build(3, num_classes, (8, 8)), lambda x: x.long())
def pair(num_classes): return Wrapped(build(3, num_classes, (8, 8)), lambda x: (x, x))
def helped(num_classes): return Helped(build(3, num_classes, (8, 8)), None)
def quits(): raise SystemExit(3)

class Wrapped(nn.Module):
    def __init__(self, inside, last):
        super().__init__()
        self.inside, self.last = inside, last
    def forward(self, x):
        return self.last(self.inside(x))

class Helped(Wrapped):  # with auxiliary logits, as Inception has
    def forward(self, x):
        return (self.inside(x), None) if self.training else self.inside(x)

ONE = build(3, 10, (8, 8))
def same(): return ONE
NUMBER = 3
"""
names = (f"nets_of_a_test_{number}" for number in itertools.count())


@pytest.fixture
def nets(tmp_path, monkeypatch) -> str:
    """Return the name of a module in the working directory, which is on no path."""
    name = next(names)
    (tmp_path / f"{name}.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    return name


def logits_shape(network: Factory, size: tuple[int, int] = (8, 8)) -> tuple[int, ...]:
    return tuple(build(network, 3, 10, size)(torch.zeros(5, 3, *size)).shape)


def test_a_factory_is_told_what_its_signature_names(nets):
    assert logits_shape(Factory(f"{nets}:build")) == (5, 10)
    assert logits_shape(Factory(f"{nets}:build", {"width": 7}), (5, 9)) == (5, 10)
    wide = build(Factory(f"{nets}:build", {"width": 7}), 3, 10, (8, 8))
    assert wide[0].weight.shape == (7, 3, 3, 3)
    assert logits_shape(Factory(f"{nets}:everything", {"more": [1, {"a": None}]})) == (5, 10)
    assert sys.modules[nets].seen == {
        "in_channels": 3,
        "num_classes": 10,
        "image_size": (8, 8),
        "more": [1, {"a": None}],
    }


def test_a_class_is_a_factory_and_its_arguments_stay_as_they_are(nets):
    network = Factory(f"{nets}:Mine", {"depths": [6]})
    assert logits_shape(network) == logits_shape(network) == (5, 10)
    assert hash(network) == hash(Factory(f"{nets}:Mine", {"depths": (6,)}))
    assert network != Factory(f"{nets}:Mine", {"depths": [7]})


def test_a_module_comes_back_as_it_was_built_with_weights_of_the_generator(nets):
    network, state = Factory(f"{nets}:build"), torch.get_rng_state()
    check_fits(network, 3, 10, (8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    states = []
    for make in (build, lambda *_: sys.modules[nets].normed(10)):  # dropout draws nothing for good
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = make(Factory(f"{nets}:normed"), 3, 10, (8, 8))
            states.append(torch.get_rng_state())
        assert model[0].num_batches_tracked == 0
    assert torch.equal(*states)
    weights = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(network, 3, 10, (8, 8))
        assert model.training
        weights.append(model[0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "raises",
            r"raises failed: RuntimeError: no weights\nhere \(.*nets_of_a_test_\d+\.py:23\)",
        ),
        ("fixed", "gives 2 x 7, not 2 x 10 logits for 2 images of 10 classes.*num_classes"),
        ("grey", r"fails on images of 3 x 8 x 8: RuntimeError: Given groups=1.*in_channels"),
        ("no_module", "returned a Tensor, not a torch.nn.Module"),
        ("squeezed", "gives 10, not 2 x 10 logits"),
        ("nothing", "gives logits that are not finite"),
        ("whole", "gives 2 x 10 of torch.int64, not 2 x 10 logits"),
        ("pair", "built a network that gives a tuple, not 2 x 10 logits"),
        ("helped", "built a network that, while it trains, gives a tuple, not 2 x 10 logits"),
        ("quits", "quits failed: SystemExit: 3"),
    ],
)
def test_what_is_no_network_for_the_data_is_refused_by_name(nets, function, message):
    network = Factory(f"{nets}:{function}")
    with pytest.raises(NetworkError, match=f"(?s){message}") as caught:
        check_fits(network, 3, 10, (8, 8))
    assert str(caught.value).startswith(f"trial.network.factory: {nets}:{function} ")


def test_a_module_that_was_built_before_is_refused(nets):
    network = Factory(f"{nets}:same")
    build(network, 3, 10, (8, 8))
    with pytest.raises(NetworkError, match="returned a module that it had returned before"):
        build(network, 3, 10, (8, 8))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("{factory: 'gone.nets:build'}", "there is no module gone"),
        ("{factory: 'NETS:bild'}", "has no 'bild'. Did you mean \"build\"?"),
        ("{factory: 'NETS:NUMBER'}", "is int, which cannot be called"),
        ("{factory: 'NETS:build', args: {widht: 4}}", "'widht'"),
        ("{factory: 'NETS:Mine'}", "'depths'"),
        ("{factory: 'NETS'}", 'write "package.module:function"'),
        ("{factory: 'broken_NETS:build'}", "failed: SyntaxError"),
    ],
)
def test_a_wrong_name_is_refused_with_its_line_and_nothing_is_called(
    nets, tmp_path, network, message
):
    (tmp_path / f"broken_{nets}.py").write_text("def build(:\n")
    path = tmp_path / "space.yaml"
    path.write_text(f"trial:\n  network: {network.replace('NETS', nets)}\n")
    with pytest.raises(ConfigError) as caught:
        load_space(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:2: trial.network")
    assert text.count("trial.network") == 1
    assert message in text


def test_a_searched_factory_is_checked_with_each_of_its_values(nets, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        f"trial:\n  network: {{factory: '{nets}:raises'}}\n"  # which would fail, if it was called
        "space:\n"
        f"  network.factory: {{choice: ['{nets}:raises', '{nets}:rises']}}\n"
    )
    with pytest.raises(ConfigError, match=r"space.yaml:4: space.network.factory: .*'rises'"):
        load_space(path)
    path.write_text(f"trial:\n  network: {{factory: '{nets}:raises'}}\n")
    network = load_space(path).config({}).network
    assert network == Factory(f"{nets}:raises")


def splits() -> Splits:
    generator = torch.Generator().manual_seed(0)
    parts = [
        Split(
            torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=generator),
            torch.arange(16) % 2,
        )
        for _ in range(3)
    ]
    return Splits(*parts, ("a", "b"), (0.5,) * 3, (0.3,) * 3, "random")


def config_of(nets: str, **fields: object) -> TrialConfig:
    network = {"factory": f"{nets}:build", "args": {"width": 4}}
    given = {"network": network, "num_epochs": 1, "batch_size": 8, **fields}
    return TrialConfig.model_validate(given, strict=False)


def test_a_configuration_with_a_factory_is_a_value(nets):
    config = config_of(nets)
    again = TrialConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert hash(again) == hash(config)
    assert config.nested()["network"] == {
        "factory": f"{nets}:build",
        "args": {"width": 4},
        "name": "factory",
    }


def test_a_rule_without_a_layer_ends_the_training_before_it_begins(nets):
    with pytest.raises(SqtuneError, match=r"'stem' matches no layer\. The layers are: 0, 3"):
        next(train(config_of(nets, keep_float=["stem"]), splits=splits()))


def test_stages_depend_on_the_source_that_builds_the_network(nets, tmp_path, monkeypatch):
    keys = epoch_keys(config_of(nets), "data")
    assert keys == epoch_keys(config_of(nets), "data")
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{nets}.py").write_text(NETS + "# changed\n")
    source_sha256.cache_clear()
    monkeypatch.delitem(sys.modules, nets)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    monkeypatch.chdir(other)
    assert epoch_keys(config_of(nets), "data") != keys


def test_a_network_comes_back_from_disk_where_its_code_is(nets, tmp_path, monkeypatch):
    config, folder = config_of(nets), tmp_path / "network"
    list(train(config, splits=splits(), save_to=folder, num_threads=1))
    saved = load_network(folder)
    assert saved.config == config
    assert saved.same_code
    with pytest.raises(ConfigError, match=f"built by {nets}:build.*--run-factory"):
        load_network(folder, run_factory=False)
    (tmp_path / f"{nets}.py").write_text(NETS.replace("width=4", "width=5"))
    source_sha256.cache_clear()
    assert not load_network(folder).same_code
    (tmp_path / f"{nets}.py").write_text(NETS.replace("nn.Flatten()", "nn.Dropout(), nn.Flatten()"))
    monkeypatch.delitem(sys.modules, nets)
    with pytest.raises(StoreError, match="does not hold a whole network"):
        load_network(folder)
