"""What a person can mend: exit code 2, place, rule and remedy, no traceback, nothing written."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sqtune.cli import main
from sqtune.config.schema import space_file_schema

SPACE = Path(__file__).parents[2] / "search_spaces" / "resnet.yaml"


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


FOLDER = "trial.data={name: image_folder, root: /no/such/folder, image_size: 32}"
SMALL = "trial.data={name: image_folder, root: /no/such/folder, image_size: 4}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--space", "nowhere.yaml"), ["nowhere.yaml", "no such file"]),
        (("--space", SPACE, "--set", "trial.optimizer.lrr=1"), ["no such field", '"lr"']),
        (("--space", SPACE, "--set", FOLDER), ["/no/such/folder", "is not a folder", "per class"]),
        (("--space", SPACE, "--set", SMALL), ["too deep for images of 4x4", "8x8"]),
        (("--space", SPACE, "--set", "resources.cpus=999"), ["999 CPUs", "resources.cpus="]),
        (("--space", SPACE, "--set", "resources.gpus=64"), ["64 GPUs", "resources.gpus"]),
        (("--space", SPACE, "--trials", "0"), ["--trials", "0"]),
    ],
)
def test_a_search_that_cannot_start_says_why_and_writes_nothing(tmp_path, arguments, parts):
    store = tmp_path / "store"
    answer = invoke("search", *arguments, "--store", store)
    assert answer.exit_code == 2
    assert all(part in answer.stderr for part in parts), answer.stderr
    assert "Traceback" not in answer.output
    assert not store.exists()


def test_what_the_system_refuses_is_a_message_with_its_place(tmp_path):
    (tmp_path / "locks").write_text("a file where a folder is wanted")
    answer = invoke("search", "--space", SPACE, "--store", tmp_path)
    assert answer.exit_code == 2
    assert "locks" in answer.stderr
    assert "--store" in answer.stderr
    assert "Traceback" not in answer.output


def test_a_tracking_server_that_does_not_answer_is_named(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sqtune", "search", "--space", str(SPACE)]
    command += ["--store", str(tmp_path / "store"), "--tracking-uri", uri]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 2
    assert uri in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "store" / "studies.journal").exists()


def test_a_store_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "store"
    path.write_text("mine")
    answer = invoke("search", "--space", SPACE, "--store", path)
    assert answer.exit_code == 2
    assert "is not a folder" in answer.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize("command", ["show", "best"])
def test_looking_at_nothing_says_how_to_start(tmp_path, command):
    answer = invoke(command, "--store", tmp_path / "store")
    assert answer.exit_code == 2
    assert "sqtune search --space" in answer.stderr
    assert not (tmp_path / "store").exists()


def test_a_port_in_use_is_named(tmp_path):
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = invoke("ui", "--store", tmp_path, "--port", port)
    assert answer.exit_code == 2
    assert f"port {port} is in use" in answer.stderr


@pytest.mark.parametrize("text", ["", "64Kib2", "-3", "lots", "0", "3 apples"])
def test_a_size_that_is_none_is_refused(tmp_path, text):
    answer = invoke("best", f"--max-size={text}", "--store", tmp_path / "store")
    assert answer.exit_code == 2
    assert answer.stderr.startswith(f"error: --max-size: {text!r} is not a size")
    assert "64KiB" in answer.stderr or "above 0" in answer.stderr


@pytest.mark.parametrize("text", ["", "2", "-1%", "100%", "few"])
def test_an_error_that_is_none_is_refused(tmp_path, text):
    answer = invoke("best", f"--max-error={text}", "--store", tmp_path / "store")
    assert answer.exit_code == 2
    assert answer.stderr.startswith(f"error: --max-error: {text!r} is not an error")
    assert "1% or 0.01" in answer.stderr


def test_a_knee_takes_no_limit(tmp_path):
    answer = invoke("best", "--knee", "--max-size", "20KiB", "--store", tmp_path / "store")
    assert answer.exit_code == 2
    assert "--knee" in answer.stderr
    assert "leave out" in answer.stderr


@pytest.mark.parametrize("command", [(), *[(name,) for name in main.commands]])
def test_every_command_explains_itself(command):
    answer = invoke(*command, "--help")
    assert answer.exit_code == 0
    assert "Usage:" in answer.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom sqtune.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'ray', 'optuna', 'mlflow', 'pydantic', 'numpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_the_shipped_schema_is_that_of_the_code():
    shipped = json.loads((SPACE.parent / "schema.json").read_text())
    assert shipped == space_file_schema()
    assert json.loads(invoke("schema").output) == shipped


def test_train_prints_a_line_per_epoch_and_json_one_object(tmp_path):
    quick = ("--set", "trial.num_epochs=2", "--set", "trial.network.width=4")
    plain = invoke("train", "--space", SPACE, *quick, "--store", tmp_path / "store")
    assert [line.split()[1] for line in plain.output.splitlines()[:2]] == ["1/2", "2/2"]
    assert plain.output.splitlines()[2].startswith("next      sqtune train")
    as_json = invoke("train", "--space", SPACE, *quick, "--json", "--store", tmp_path / "store")
    assert [e["epoch"] for e in json.loads(as_json.stdout)["epochs"]] == [1, 2]
    assert not (tmp_path / "store").exists()
