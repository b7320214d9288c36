"""The public names, what they take, and that they cost nothing before they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sqtune

ROOT = Path(__file__).parents[2]
SEARCH = """
(space: 'str | os.PathLike[str] | Mapping[str, Any]', *,
overrides: 'Mapping[str, Any] | None' = None, trials: 'int | None' = None,
concurrent: 'int | None' = None, name: 'str | None' = None,
time_limit: 'float | str | None' = None, target_error: 'float | str | None' = None,
warm_start: 'str | None' = None, store: 'str | os.PathLike[str] | None' = None,
study_storage: 'str | None' = None, tracking_uri: 'str | None' = None, offline: 'bool' = False,
address: 'str | None' = None, working_dir: 'str | os.PathLike[str] | None' = None,
quiet: 'bool' = False) -> 'Study'
"""
OPEN_STUDY = """
(name: 'str | None' = None, *, store: 'str | os.PathLike[str] | None' = None,
study_storage: 'str | None' = None, tracking_uri: 'str | None' = None) -> 'Study'
"""
LOAD = "(path: 'str | os.PathLike[str]', *, run_factory: 'bool' = False) -> 'TrainedNetwork'"
BEST = """
(self, max_size: 'int | str | None' = None, max_error: 'float | str | None' = None, *,
knee: 'bool' = False) -> 'Trial'
"""
EXPORT = """
(self, out: 'str | os.PathLike[str]', form: 'Form' = 'onnx', *,
activations: 'ActivationForm' = 'trained', force: 'bool' = False, quiet: 'bool' = False) -> 'Path'
"""


def signature(function: object) -> str:
    return str(inspect.signature(function))


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_the_names_are_few_and_stay():
    assert sqtune.__all__ == [
        *("SqtuneError", "Study", "Trial", "__version__", "load", "open_study", "search")
    ]
    assert public(sqtune.Study) == {"best", "front", "plot_front", "trial", "trials"}
    assert public(sqtune.Trial) == {"epochs", "export", "network"}
    assert set(sqtune.__all__) <= set(dir(sqtune))
    assert all(getattr(sqtune, name).__doc__ for name in sqtune.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        sqtune.serach  # noqa: B018


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (sqtune.search, SEARCH),
        (sqtune.open_study, OPEN_STUDY),
        (sqtune.load, LOAD),
        (sqtune.Study.best, BEST),
        (sqtune.Study.trial, "(self, number: 'int') -> 'Trial'"),
        (sqtune.Study.plot_front, "(self) -> 'Figure'"),
        (sqtune.Trial.export, EXPORT),
    ],
)
def test_what_they_take_stays(function, expected):
    assert signature(function) == in_one_line(expected)


def test_the_types_come_with_the_package():
    assert (ROOT / "sqtune/py.typed").read_text() == ""


@pytest.mark.parametrize(
    "code",
    [
        "import sqtune; sqtune.search; sqtune.SqtuneError; sqtune.open_study",
        "from sqtune import SqtuneError, open_study, search",
        "import sqtune.search; import sqtune",
    ],
)
def test_importing_them_stays_light(code):
    heavy = "{'torch', 'pandas', 'numpy', 'ray', 'optuna', 'mlflow', 'pydantic', 'rich', 'click'}"
    check = f"{code}\nimport sys\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_function_and_the_package_of_one_name_are_one():
    import sqtune.search.records as records  # noqa: PLR0402
    from sqtune import search
    from sqtune.api import search as function
    from sqtune.search import pareto

    assert sqtune.search is search
    assert sqtune.search.pareto is pareto
    assert sqtune.search.records is records
    with pytest.raises(TypeError, match="unexpected keyword argument 'trails'"):
        sqtune.search({}, trails=3)
    assert inspect.signature(search) == inspect.signature(function)
