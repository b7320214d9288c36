"""Comparisons: what is wrong with one is told with its line; its points are methods x seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import assert_told, cases

from sqtune.config import load_space
from sqtune.config.compared import cells, comparison_space
from sqtune.errors import ConfigError
from sqtune.train.optim import learning_rate_span

ROOT = Path(__file__).parents[2]
SPACE = """
trial: {num_epochs: 4, batch_size: 32, seed: 3}
compare:
  budgets: [paper, 1]
  methods:
"""
METHODS = """
    - {name: BWN, values: {quantizer: {name: binary}, schedule: {name: stages, ratios: [1]}}}
    - {name: SQ-BWN, stages: 4, against: BWN, published: 9.4%, values: {quantizer: {name: binary}}}
"""

MISTAKES = """
== no values
    - {name: a, values: {}}  #! compare.methods.0.values
== no such path
    - {name: a, values: {batchsize: 8}}  #! compare.methods.0.values: & batchsize
== a value that breaks a rule
    - {name: a, values: {batch_size: 8}}
    - {name: b, values: {batch_size: 0}}  #! compare.methods.1.values: batch_size:
== published in another unit
    - {name: a, published: 940%, values: {batch_size: 8}}  #! compare.methods.0.published
"""
AS_A_WHOLE = {
    "{name: a, values: {seed: 1}}": "a gives seed: .* seeds from --seeds",
    "{name: a, values: {num_epochs: 8}}": r"a gives num_epochs: epochs come from trial\.num_epochs",
    "{name: a, against: b, values: {batch_size: 8}}": "with 'b', which is no method; they are: a",
    "{name: a, against: a, values: {batch_size: 8}}": "a is compared with itself: name another",
    "{name: ' ', values: {batch_size: 8}}": "a name of blanks alone cannot be seen",
    "{name: a, values: {batch_size: 8}}, {name: a, values: {batch_size: 9}}": r"twice: \['a'\]",
    "{name: a, values: {start.fresh: [stem]}}, {name: b, values: {batch_size: 9}}": (
        r"compare\.methods: start\.fresh .* stands nowhere for b"
    ),
}


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_mistakes_are_told_with_their_line(text, tmp_path):
    assert_told(tmp_path, SPACE + text)


@pytest.mark.parametrize(("methods", "message"), AS_A_WHOLE.items())
def test_methods_that_do_not_go_together_are_told(methods, message, tmp_path):
    text = f"trial: {{num_epochs: 4}}\ncompare: {{methods: [{methods}]}}"
    with pytest.raises(ConfigError, match=message):
        space_of(tmp_path, text)


def space_of(folder, text=SPACE + METHODS):
    path = folder / "five.yaml"
    path.write_text(text)
    return load_space(path)


def test_every_method_gets_every_budget_and_every_seed(tmp_path):
    derived = comparison_space(space_of(tmp_path), 2)
    assert derived.search.num_trials == len(derived.points)
    configs = [derived.config(point) for point in derived.points]
    found = [(c.seed, len(getattr(c.schedule, "ratios", "four")), c.num_epochs) for c in configs]
    # BWN's budget is the same twice, and trained once
    first = [(3, 1, 4), (3, 4, 16), (3, 4, 4)]
    assert found == [*first, *((4, *rest) for _, *rest in first)]
    assert {config.batch_size for config in configs} == {32}


def test_a_method_without_a_value_has_the_trial_s(tmp_path):
    values = {method.name: values for method, _, values in cells(space_of(tmp_path))}
    assert values["SQ-BWN"]["schedule"] == space_of(tmp_path).config({}).nested()["schedule"]


def test_more_seeds_and_budgets_go_on_with_the_same_study(tmp_path):
    space = space_of(tmp_path)
    more = space_of(tmp_path, (SPACE + METHODS).replace("[paper, 1]", "[1, paper, 3]"))
    assert comparison_space(space, 1).hash() == comparison_space(more, 5).hash()


def test_nothing_is_searched_beside_methods(tmp_path):
    text = SPACE + METHODS + "space: {optimizer.lr: {choice: [0.1, 0.2]}}"
    with pytest.raises(ConfigError, match=r"space: methods that are compared are fixed"):
        space_of(tmp_path, text)


def test_an_override_that_no_method_would_see_is_refused(tmp_path):
    space_of(tmp_path)
    path = tmp_path / "five.yaml"
    assert load_space(path, ["trial.schedule={name: average}"])  # SQ-BWN has it from there
    with pytest.raises(
        ConfigError, match=r"every method under compare: has its own quantizer\.bits"
    ):
        load_space(path, ["trial.quantizer.bits=3"])


def test_the_sampler_points_needs_points(tmp_path):
    with pytest.raises(ConfigError, match=r"search\.sampler: .* Write points"):
        space_of(tmp_path, "search: {sampler: points}")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "search_spaces/paper").glob("*.yaml")), ids=lambda f: f.stem
)
def test_the_paper_s_rows_have_what_was_published(file):
    compared = load_space(file).compare
    assert compared is not None
    names = [method.name for method in compared.methods]
    if file.stem == "cifar10_ablations":
        assert all(method.against == "SQ-TWN" for method in compared.methods[1:])
        return
    assert names == ["FWN", "BWN", "SQ-BWN", "TWN", "SQ-TWN"]
    assert [method.stages for method in compared.methods] == [1, 1, 4, 1, 4]
    assert [method.published for method in compared.methods] == pytest.approx(PUBLISHED[file.stem])
    top5 = [method.published_top5 for method in compared.methods]
    if file.stem in PUBLISHED_TOP5:
        assert top5 == pytest.approx(PUBLISHED_TOP5[file.stem])
    else:
        assert top5 == [None] * 5


@pytest.mark.parametrize(
    "name", ["paper/cifar10_vgg9", "paper/imagenet_resnet18", "compare_resnet8"]
)
def test_what_trains_one_stage_has_one_learning_rate_schedule(name):
    space = load_space(ROOT / f"search_spaces/{name}.yaml")
    for method, _, values in cells(space):
        config = space.config(values)
        spans = {
            learning_rate_span(config.optimizer, config.schedule, epoch, config.num_epochs)
            for epoch in range(1, config.num_epochs + 1)
        }
        restarts = config.optimizer.restarts == "stage"
        assert len(spans) == (method.stages if restarts else 1), (method.name, config.num_epochs)


PUBLISHED = {  # BMVC 2017, the paper's two tables of results: test error, top-1 on ImageNet
    "cifar10_vgg9": [0.0900, 0.1067, 0.0940, 0.0987, 0.0837],
    "cifar10_resnet56": [0.0669, 0.1642, 0.0715, 0.0764, 0.0620],
    "cifar100_vgg9": [0.3068, 0.3768, 0.3525, 0.3480, 0.3424],
    "cifar100_resnet56": [0.2949, 0.3501, 0.3156, 0.3209, 0.2890],
    "imagenet_alexnet_bn": [0.4418, 0.5122, 0.4878, 0.4754, 0.4470],
    "imagenet_resnet18": [0.3480, 0.4520, 0.4164, 0.3983, 0.3618],
}
PUBLISHED_TOP5 = {
    "imagenet_alexnet_bn": [0.2083, 0.2718, 0.2486, 0.2381, 0.2140],
    "imagenet_resnet18": [0.1360, 0.2108, 0.1835, 0.1702, 0.1426],
}
