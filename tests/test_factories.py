"""Factories: what a configuration names in somebody's own code, and its frozen arguments."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
from dataclasses import asdict, dataclass, field

import pytest

from sqtune.errors import ConfigError
from sqtune.factories import Args, call_arguments, check_name, load_callable, source_sha256


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a package of its own, forgotten afterwards."""
    package = tmp_path / "ownpackage"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "shapes.py").write_text("SIDES = 3\n")
    (package / "nets.py").write_text(
        "class Nets:\n    @staticmethod\n    def build(depth): return depth\n"
        "def build(depth, num_classes=2, *, image_size): return depth, num_classes, image_size\n"
        "WIDTH = 4\n"
    )
    (tmp_path / "ownmodule.py").write_text("def load(): return 1\n")
    (tmp_path / "ownbroken.py").write_text("x = 1\nimport notthere_at_all\n")
    (tmp_path / "ownexits.py").write_text("raise SystemExit('no')\n")
    (tmp_path / "ownwrong.py").write_text("def load(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    source_sha256.cache_clear()
    for name in [name for name in sys.modules if name.startswith("own")]:
        del sys.modules[name]


@dataclass(frozen=True, slots=True)
class Spec:
    args: dict = field(default_factory=Args)


def test_arguments_are_frozen_hashable_and_plain_json():
    args = Args({"depths": [1, [2, 3]], "inner": {"x": None}})
    assert hash(args) == hash(Args(inner={"x": None}, depths=(1, (2, 3))))
    assert args == Args(inner={"x": None}, depths=[1, [2, 3]])
    assert json.loads(json.dumps(args)) == args.plain() == asdict(Spec(args))["args"]
    for same in (copy.deepcopy(args), pickle.loads(pickle.dumps(args)), Args(args.plain())):
        assert same == args
        assert type(same) is Args
    for change in (
        lambda: args.update(a=1),
        lambda: args["inner"].setdefault("y", 1),
        lambda: args.pop("depths"),
        lambda: args.__setitem__("a", 1),
        lambda: args.__delitem__("depths"),
        args.clear,
        args.popitem,
    ):
        with pytest.raises(TypeError, match="do not change"):
            change()
    args.plain()["depths"].append(4)
    assert args.plain()["depths"] == [1, [2, 3]]


def test_numbers_that_act_differently_are_different_arguments():
    assert len({Args(a=1), Args(a=1.0), Args(a=True), Args(a="1")}) == 4
    assert Args(a=1) != Args(a=1.0)
    assert Args() != 0
    assert Args(a=1) != {"a": object()}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": [1, object()]}}, r"args\.a\.b\.1 is object: give plain data"),
        ({"a": math.nan}, r"args\.a is a finite number, not nan"),
        ({"a": math.inf}, "finite"),
        ({"a": {1: 2}}, r"args\.a: names of arguments are text, not 1"),
    ],
)
def test_arguments_that_are_no_plain_data_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        Args(value)


@pytest.mark.parametrize("text", ["", "nets", "nets.build", "nets:", ":build", "a b:c", "a:b:c"])
def test_a_name_without_module_and_function_is_refused(text):
    check_name("mypackage.nets:Builder.build")
    with pytest.raises(ValueError, match=r'write "package\.module:function"'):
        check_name(text)
    with pytest.raises(ConfigError, match=r"^trial\.x: "):
        load_callable(text, "trial.x")


def test_functions_of_the_working_directory_are_found(here):
    assert load_callable("ownpackage.nets:build", "x")(1, image_size=3) == (1, 2, 3)
    assert load_callable("ownpackage.nets:Nets.build", "x")(5) == 5
    assert load_callable("ownmodule:load", "x")() == 1
    assert sys.path[-1] == str(here)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ownnothere:load", "there is no module ownnothere.*working directory, /"),
        ("ownpackage.other:load", r"there is no module ownpackage\.other "),
        ("ownpackage.nets:buidl", r'nets\.py has no .buidl.\. Did you mean "build"'),
        ("ownpackage.nets:Nets.biuld", r"has no .biuld.\. Did you mean .build"),
        ("ownpackage.nets:WIDTH", "is int, which cannot be called"),
        ("ownbroken:load", r"importing ownbroken failed: .*notthere_at_all.*ownbroken\.py:2"),
        ("ownexits:load", r"SystemExit: no \(.*ownexits\.py:1"),
        ("ownwrong:load", r"SyntaxError: .*ownwrong\.py:1"),
    ],
)
def test_what_cannot_be_imported_says_why_and_where(here, text, message):
    with pytest.raises(ConfigError, match=rf"(?s)^trial\.network\.factory: .*{message}"):
        load_callable(text, "trial.network.factory")


def test_a_function_is_given_what_its_signature_names(here):
    offered = {"num_classes": 10, "image_size": [8, 8], "in_channels": 3}
    build = load_callable("ownpackage.nets:build", "x")

    def arguments(function, **args):
        return call_arguments(function, Args(args), offered, "trial.network")

    assert arguments(build, depth=[1]) == {"depth": [1], "num_classes": 10, "image_size": [8, 8]}
    assert arguments(build, depth=1, num_classes=5)["num_classes"] == 5
    assert arguments(lambda **kwargs: None, a=1) == {"a": 1, **offered}
    with pytest.raises(ConfigError, match=r"^trial\.network: build\(depth.*missing.*'depth'.*Mend"):
        arguments(build)
    with pytest.raises(ConfigError, match=r"num_classes, image_size, depth, wdith: .*'wdith'"):
        arguments(build, depth=1, wdith=2)


def test_the_source_of_a_whole_package_counts(here):
    def fresh(text):
        source_sha256.cache_clear()
        return source_sha256(text, "x")

    first, alone = fresh("ownpackage.nets:build"), fresh("ownmodule:load")
    assert first != alone
    assert fresh("ownpackage.nets:build") == first
    (here / "ownpackage" / "inner" / "shapes.py").write_text("SIDES = 4\n")
    second = fresh("ownpackage.nets:build")
    (here / "ownpackage" / "notes.txt").write_text("not read")
    assert fresh("ownpackage.nets:build") == second != first
    (here / "ownpackage" / "more.py").write_text("")
    assert fresh("ownpackage.nets:build") not in (first, second)
    assert fresh("ownmodule:load") == alone
    (here / "ownmodule.py").write_text("def load(): return 2\n")
    assert fresh("ownmodule:load") != alone
