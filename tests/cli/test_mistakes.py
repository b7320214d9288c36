"""Wrong commands, one after another: each is told once, with place, rule and remedy.

Exit code 2, no traceback, nothing on stdout. Every class of `sqtune.errors` is met.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click import UsageError
from click.testing import CliRunner
from remedies import IN_MESSAGE
from search.studies import asked, finish, new_store, opened, space_of

from sqtune import errors
from sqtune.cli import main
from sqtune.config import TrialConfig
from sqtune.errors import (
    ClusterError,
    ConfigError,
    DataError,
    ExportError,
    NetworkError,
    QuantizationError,
    ResourceError,
    SqtuneError,
    StoreError,
    StudyError,
    TrackingError,
    TrainingError,
    WriteError,
)
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Exponential, StochasticQuantization
from sqtune.train.checkpoint import About, save_network

NAME = "mein Versuch 语"
SPACE = """
trial: {num_epochs: 1, network: {name: resnet8, width: 2}}
space: {optimizer.lr: {choice: [0.05, 0.1, 0.2]}}
search: {num_trials: 3}
"""
COMPARED = """
trial: {num_epochs: 1}
compare: {methods: [{name: BWN, values: {quantizer: {name: binary}}}]}
"""
HOMELESS = "~no.such.user/x"
NETS = "def build(num_classes):\n    raise RuntimeError('no layers today')\n"
FACTORY = "trial.network={factory: 'nets:build'}"
FOLDER = "trial.data={name: image_folder, root: nowhere, image_size: 32}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a study of a finished trial and one that failed, and odd files."""
    folder = tmp_path_factory.mktemp("here")
    places = new_store(folder / "store")
    study = opened(places, space_of(folder, f"name: {NAME}\n{SPACE}"))
    first, second = asked(study), asked(study)
    finish(study, first, 0.25, epochs=1)
    study.fail(second.number, "RuntimeError: no")
    texts = {"file": "mine", "broken.yaml": "trial: {num_epochs: 1\nspace: ]", "nets.py": NETS}
    texts |= {
        "list.yaml": "- 1\n- 2\n",
        "compared.yaml": COMPARED,
        "twice.yaml": "name: a\nname: b",
    }
    texts["deep.yaml"] = f"trial: {3000 * '['}{3000 * ']'}"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "empty").mkdir()
    return folder


SEARCH = ("search", "--space", "space.yaml")
TRAIN = ("train", "--space", "space.yaml")
HERE = ("--store", "store")
USAGE: list[tuple[tuple[str, ...], type[Exception], list[str]]] = [
    (("serach",), UsageError, ["'serach'. Did you mean 'search'? See: sqtune"]),
    (("--verison",), UsageError, ["No such option '--verison'", "--version", "sqtune --help"]),
    (("search",), UsageError, ["Missing option '--space'", "sqtune search --help"]),
    (("search", "--tirals", "3"), UsageError, ["--trials"]),
    (("search", "space.yaml"), UsageError, ["--help"]),
    ((*SEARCH, "--trials", "0"), UsageError, ["--trials", "0 is not in the range x>=1"]),
    ((*SEARCH, "--trials", "many"), UsageError, ["--trials", "'many' is not a whole number. See"]),
    ((*SEARCH, "--concurrent", "-1"), UsageError, ["--concurrent"]),
    ((*SEARCH, "--working-dir", "nowhere"), UsageError, ["--working-dir", "does not exist"]),
    (("logs",), UsageError, ["TRIAL", "sqtune logs --help"]),
    (("logs", "seven"), UsageError, ["TRIAL", "'seven' is not a whole number. See"]),
    (("store", "prune"), UsageError, ["--max-size", "sqtune store prune --help"]),
    (("store", "purge"), UsageError, ["No such command 'purge'", "'prune'"]),
    (("confirm", "--top", "0"), UsageError, ["--top"]),
    (("export",), UsageError, ["--out"]),
    (("export", "--out", "new", "--form", "tflite"), UsageError, ["--form", "'onnx'"]),
    (("predict", "empty"), UsageError, ["IMAGE"]),
    (("schema", "please"), UsageError, ["unexpected extra argument (please)"]),
    (("ui", "--port", "0"), UsageError, ["--port"]),
    (("completion", "tcsh"), UsageError, ["'bash'", "'fish'"]),
]
CONFIGS = [
    (("search", "--space", "nowhere.yaml"), ConfigError, ["nowhere.yaml: no such file"]),
    (("search", "--space", "empty"), ConfigError, ["empty: cannot be read"]),
    (("search", "--space", "binary.yaml"), ConfigError, ["binary.yaml: cannot be read", "UTF-8"]),
    (("search", "--space", "broken.yaml"), ConfigError, ["broken.yaml:2: not valid YAML"]),
    (("search", "--space", "twice.yaml"), ConfigError, ["twice.yaml:2", "Keep one of the two"]),
    (("search", "--space", "list.yaml"), ConfigError, ["list.yaml: holds no mapping"]),
    (("search", "--space", "compared.yaml"), ConfigError, ["sqtune compare --space"]),
    (("compare", "--space", "space.yaml"), ConfigError, ["compares nothing"]),
    ((*SEARCH, "--set", "trial.num_epochs"), ConfigError, ["--set trial.num_epochs", "PATH=VALUE"]),
    ((*SEARCH, "--set", "trial.num_epoch=2"), ConfigError, ['Did you mean "num_epochs"?']),
    ((*SEARCH, "--set", "num_epochs=2"), ConfigError, ['Did you mean "trial.num_epochs"?']),
    ((*SEARCH, "--set", "trial.num_epochs=two"), ConfigError, ["--set trial.num_epochs=two"]),
    ((*SEARCH, "--set", "trial.keep_float=[1"), ConfigError, ["trial.keep_float=[1", "YAML"]),
    ((*SEARCH, "--set", "trial.optimizer.lr=-1"), ConfigError, ["trial.optimizer.lr"]),
    ((*SEARCH, "--set", "space.optimizer.lr=0.1"), ConfigError, ["space.optimizer.lr"]),
    ((*SEARCH, "--set", "search.sampler=best"), ConfigError, ["search.sampler"]),
    ((*SEARCH, "--set", "resources.gpus=-1"), ConfigError, ["greater than or equal to 0, not -1"]),
    (("search", "--space", "deep.yaml"), ConfigError, ["deep.yaml: is nested too deep"]),
    (("best", "--max-size", "1e99GiB"), ConfigError, ["must be below"]),
    ((*SEARCH, "--name", ""), ConfigError, ["name"]),
    ((*SEARCH, "--time-limit", "soon"), ConfigError, ["--time-limit: 'soon' is not a time"]),
    ((*SEARCH, "--target-error", "3"), ConfigError, ["--target-error: '3' is not an error"]),
    ((*SEARCH, "--set", "num_trials=2"), ConfigError, ['Did you mean "search.num_trials"?']),
    ((*SEARCH, "--set", "optimizer.lr=2"), ConfigError, ['Did you mean "trial.optimizer.lr"?']),
    (("show", "--watch", "--json"), ConfigError, ["--watch and --json"]),
    (("best", "--max-size", "3 apples"), ConfigError, ["--max-size: '3 apples' is not a size"]),
    (("best", "--max-error", "few"), ConfigError, ["--max-error: 'few' is not an error"]),
    (("best", "--knee", "--max-size", "2KiB"), ConfigError, ["--knee", "leave out"]),
    (("compare", "--space", "compared.yaml", "--name", "-x"), ConfigError, ['--name "-x": ']),
    (("store", "prune", "--max-size", "0.0001KiB"), ConfigError, ["--max-size: '0.0001KiB'"]),
    (("store", "prune", "--max-size", "lots"), ConfigError, ["--max-size: 'lots'"]),
    ((*TRAIN, "--out", "."), ConfigError, ["--out .: exists and is not an empty folder"]),
    ((*TRAIN, "--out", "file"), ConfigError, ["--out file: exists"]),
    ((*TRAIN, "--out", "file/net"), ConfigError, ["--out file/net: cannot be written"]),
    ((*TRAIN, "--set", "trial.network={factory: 'nest:build'}"), ConfigError, ["nest"]),
    (("export", *HERE, "--out", "new", "--trial", "0", "--knee"), ConfigError, ["--trial and"]),
    (("export", *HERE, NAME, "--out", "new", "--network", "empty"), ConfigError, ["--network"]),
]
STUDIES = [
    (("show", "--store", "empty"), StudyError, ["sqtune search --space"]),
    (("show", "mein versuch", *HERE), StudyError, [f'Did you mean "{NAME}"?']),
    (("best", "nowhere", *HERE), StudyError, ['no study "nowhere"', "Known are"]),
    (("logs", "99", *HERE), StudyError, ["no trial 99", "sqtune show"]),
    (("logs", "0", *HERE), StudyError, ["trial 0", "no log"]),
    (("stop", *HERE), StudyError, ["no search of", "is running", NAME, "sqtune show"]),
    (("confirm", "nowhere", *HERE), StudyError, ['no study "nowhere"']),
    (("export", *HERE, "--out", "new", "--trial", "99"), StudyError, ["no trial 99"]),
    (("export", *HERE, "--out", "new", "--run", "abc"), StudyError, ["MLflow run abc"]),
    ((*SEARCH, *HERE, "--name", "a", "--warm-start", "a"), StudyError, ["--warm-start a"]),
    ((*SEARCH, *HERE, "--set", "trial.num_epochs=2"), StudyError, ["another space", "--name"]),
    (("export", *HERE, "--out", "new", "--trial", "1"), ExportError, ["trial 1", "is failed"]),
    (("export", *HERE, "--out", "new", "--trial", "0"), StoreError, ["00000"]),
]
PLACES = [
    (("show", "--store", "file"), StoreError, ["file is not a folder. Give --store"]),
    (("store", "--store", ""), StoreError, ['--store "": is no place. Give --store a folder']),
    (("show", "--store", HOMELESS), ConfigError, [f"{HOMELESS}: no home folder is known for"]),
    (("show", "--store", "s3://"), StoreError, ['--store "s3://": is no place']),
    (("store", "--store", "nowhere"), StoreError, ["no store in", "--store"]),
    (("store", "--store", "nonsense://x"), StoreError, ["--store nonsense://x cannot be opened"]),
    ((*SEARCH, "--store", "file/store"), StoreError, ["cannot be made", "--store"]),
    (("show", "--study-storage", "nonsense://x"), StoreError, ["--study-storage nonsense://x"]),
    (("show", "--study-storage", "sqlite:////no/such/x.db"), StoreError, ["unable to open"]),
    (("ui", "--store", "empty"), StoreError, ["no tracking database"]),
    ((*TRAIN, "--set", "trial.start.weights=nowhere"), ConfigError, ["trial.start.weights"]),
    ((*TRAIN, "--set", "trial.start.weights=file"), StoreError, ["trial.start.weights: file"]),
    ((*TRAIN, "--set", FOLDER), DataError, ["trial.data.root: nowhere is not a folder"]),
    (
        (*TRAIN, "--set", f"trial.data={{name: image_folder, root: {HOMELESS}}}"),
        ConfigError,
        ["trial.data.root"],
    ),
    (("predict", "empty", "nowhere.png"), DataError, ["nowhere.png: no such file"]),
    (("predict", "empty", "empty"), DataError, ["empty has no images"]),
    (("predict", "empty", "file"), ExportError, ["empty holds no network"]),
    (("verify", "nowhere"), ExportError, ["nowhere is no folder"]),
    (("verify", "empty"), ExportError, ["manifest.json is missing"]),
    (
        ("export", "--network", "empty", "--out", "new"),
        ConfigError,
        ["--network empty: "],
    ),
    (("export", "--network", "nope", "--out", "new"), ConfigError, ["nope: ", "train --out wrote"]),
    (("export", *HERE, "--out", "file"), ExportError, ["--out file: exists and is no folder"]),
    (("export", *HERE, "--out", "store"), ExportError, ["--out store: holds"]),
]
MACHINES = [
    ((*SEARCH, "--set", "resources.cpus=999"), ResourceError, ["999 CPUs", "resources.cpus="]),
    ((*SEARCH, "--address", "nowhere"), ClusterError, ["--address nowhere", "HOST:PORT"]),
    ((*SEARCH, "--address", "ray://h:10001"), ClusterError, ["Ray Client", "sqtune submit"]),
    ((*SEARCH, "--address", "127.0.0.1:1"), ClusterError, ["nothing answers there", "head"]),
    (
        ("submit", "--space", "space.yaml", "--address", "nowhere", "--store", "/shared"),
        ClusterError,
        ["--address nowhere: write a URL"],
    ),
    ((*TRAIN, "--set", FACTORY), NetworkError, ["nets:build failed", "no layers today"]),
    ((*TRAIN, "--set", "trial.optimizer.lr=1e30"), TrainingError, ["Lower the learning rate"]),
]
TYPED = [*USAGE, *CONFIGS, *STUDIES, *PLACES, *MACHINES]


def told(*arguments: str) -> tuple[str, BaseException | None]:
    """Return the message of a command that is refused, and what had been raised."""
    answer = CliRunner().invoke(main, list(arguments), prog_name="sqtune")
    assert answer.exit_code == 2, answer.output
    assert answer.stdout == ""
    assert answer.exception is not None
    return answer.stderr, answer.exception.__context__


def assert_is_a_message(text: str) -> None:
    assert "Traceback" not in text
    assert len(re.findall(r"^error: ", text, re.MULTILINE)) == 1
    assert text.splitlines()[0].startswith("error: ")
    assert IN_MESSAGE.search(text), text


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"), TYPED, ids=[" ".join(words)[:70] for words, *_ in TYPED]
)
def test_a_wrong_command_is_told_what_is_wrong(folder, monkeypatch, arguments, kind, parts):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    text, raised = told(*arguments)
    assert_is_a_message(text)
    assert type(raised) is kind or (kind is UsageError and isinstance(raised, UsageError))
    assert all(part in text for part in parts), text
    assert sorted(folder.rglob("*")) == before, "something was written"


def test_a_port_that_is_taken(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text, raised = told("ui", "--store", str(tmp_path), "--port", port)
    assert_is_a_message(text)
    assert type(raised) is TrackingError
    assert f"port {port} is in use. Give --port" in text


def write_where_nothing_can_be(folder: Path) -> None:
    about = About(("a", "b"), 1, (8, 8), (0.0,), (1.0,), data_fingerprint="", result={})
    model = build(ResNet("resnet8", 2), 1, 2)
    save_network(folder / "file" / "network", TrialConfig(), about, model)


def quantize_nothing(folder: Path) -> None:
    StochasticQuantization(torch.nn.ReLU(), Binary(), Exponential())


FROM_CODE = [(write_where_nothing_can_be, WriteError), (quantize_nothing, QuantizationError)]


@pytest.mark.parametrize(("act", "kind"), FROM_CODE)
def test_what_only_code_can_do_wrong_is_told_likewise(folder, act, kind):
    with pytest.raises(SqtuneError) as caught:
        act(folder)
    assert type(caught.value) is kind
    assert IN_MESSAGE.search(str(caught.value)), caught.value


def test_every_class_is_met():
    def classes(kind: type) -> Iterator[type]:
        for each in kind.__subclasses__():
            if each.__module__ == errors.__name__:
                yield each
                yield from classes(each)

    met = {kind for _, kind, _ in TYPED} | {kind for _, kind in FROM_CODE} | {TrackingError}
    assert set(classes(SqtuneError)) <= met
