"""What shells complete: commands, options, values, studies; in the shells that there are."""

from __future__ import annotations

import os
import pty
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from search.studies import asked, new_store, opened, space_of

from sqtune.cli import main
from sqtune.completion import SHELLS, VARIABLE, script

NAMES = ("mein Versuch 语", "resnet", "resnet-2")
SPACE = "trial: {num_epochs: 1}\nspace: {optimizer.lr: {choice: [0.05, 0.1]}}\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    places = new_store(folder / "store")
    for name in NAMES:
        study = opened(places, space_of(folder, f"name: {name}\n{SPACE}"))
        for _ in range(2):
            log = places.log(name, asked(study).number)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
    places.log("resnet", 12).touch()
    return places.root


def completed(*words: object) -> list[str]:
    """Return what the last word, of which a part is there, may become."""
    *before, incomplete = map(str, words)
    shell = ShellComplete(main, {}, "sqtune", VARIABLE)
    return [item.value for item in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize("command", ["show", "best", "confirm", "export", "stop"])
def test_names_of_studies_the_newest_first(store, command):
    assert completed(command, "--store", store, "") == list(reversed(NAMES))
    assert completed(command, "--store", store, "res") == ["resnet-2", "resnet"]
    assert completed(command, "--store", store, "mein V") == [NAMES[0]]
    assert completed(command, "--store", "~no.such.user", "") == []


def test_names_for_options_and_from_the_usual_places(store, monkeypatch, tmp_path):
    assert completed("search", "--store", store, "--warm-start", "m") == [NAMES[0]]
    monkeypatch.setenv("SQTUNE_STORE", str(store))
    assert completed("search", "--name", "m") == [NAMES[0]]
    monkeypatch.delenv("SQTUNE_STORE")
    settings = tmp_path / "config.toml"
    settings.write_text(f'store = "{store}"')
    monkeypatch.setenv("SQTUNE_CONFIG", str(settings))
    assert completed("show", "m") == [NAMES[0]]


@pytest.mark.parametrize(
    "place", ["nowhere", "empty", "s3://bucket/store", "postgresql://host/db", "half"]
)
def test_where_there_are_no_studies_nothing_is_completed_and_nothing_is_said(tmp_path, place):
    for name, content in (("empty", b""), ("half", b'{"op_code":0,"study_name":"res')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "studies.journal").write_bytes(content)
    where = place if "://" in place else tmp_path / place
    assert completed("show", "--store", where, "") == []
    assert completed("logs", "--store", where, "") == []


def test_a_broken_settings_file_completes_nothing(monkeypatch, tmp_path):
    (tmp_path / "config.toml").write_text("store = 3")
    monkeypatch.setenv("SQTUNE_CONFIG", str(tmp_path / "config.toml"))
    assert completed("show", "") == []


def test_numbers_of_trials(store):
    soon = time.time() + 9  # clocks of file systems are coarse
    os.utime(store / "logs" / "resnet", (soon, soon))
    assert completed("logs", "--store", store, "") == ["0", "1", "12"]
    assert completed("export", "--store", store, "--trial", "1") == ["1", "12"]
    assert completed("export", NAMES[0], "--store", store, "--trial", "") == ["0", "1"]
    assert completed("export", "none", "--store", store, "--trial", "") == []


def test_numbers_of_trials_are_of_the_search_and_not_of_its_confirmation(tmp_path):
    places = new_store(tmp_path / "store")
    for name, number in (("found", 3), ("found sure", 4)):
        study = opened(places, space_of(tmp_path, f"name: {name}\n{SPACE}"))
        log = places.log(name, number)
        log.parent.mkdir(parents=True)
        log.touch()
        if name == "found sure":
            study.set_attr("confirms", "found")
            later = time.time() + 9
            os.utime(log.parent, (later, later))
    assert completed("export", "--store", places.root, "--trial", "") == ["3"]
    assert completed("export", "found sure", "--store", places.root, "--trial", "") == ["4"]


def test_paths_of_a_space_file_and_values_of_choices():
    paths = completed("search", "--set", "trial.opt")
    assert "trial.optimizer.lr=" in paths
    assert all(path.startswith("trial.opt") for path in paths)
    assert "stages.max_size=" in completed("search", "--set", "stages.")
    assert "resources.gpus=" in completed("plan", "--set", "res")
    assert completed("export", "--form", "") == ["onnx", "native", "torch", "c"]
    assert completed("completion", "") == list(SHELLS)
    assert completed("pre") == ["predict"]
    assert completed("new", "--from", "res") == ["resnet"]


def test_folders_and_files_are_left_to_the_shell():
    shell = ShellComplete(main, {}, "sqtune", VARIABLE)
    for words, kind in ((["--store"], "dir"), (["--space"], "file")):
        [item] = shell.get_completions(["search", *words], "sea")
        assert (item.type, item.value) == (kind, "sea")


def test_a_press_of_the_key_takes_a_moment_and_imports_nothing_heavy(store):
    code = (
        "import os, sys\n"
        f"os.environ |= {{{VARIABLE!r}: 'bash_complete', 'COMP_CWORD': '4',\n"
        f" 'COMP_WORDS': 'sqtune show --store {store} res'}}\n"
        "from sqtune.cli import main\n"
        "try:\n    main(prog_name='sqtune')\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'optuna', 'ray', 'pydantic', 'rich'} & sys.modules.keys()\n"
        "    assert not heavy, heavy"
    )
    spent = [seconds_of([sys.executable, "-c", "pass"])]
    spent += [seconds_of([sys.executable, "-c", code], b"plain,resnet-2\nplain,resnet\n")]
    assert spent[1] - spent[0] < 0.3


def seconds_of(command: list[str], printed: bytes = b"") -> float:
    """Return the least time of a core, in seconds, that a process takes."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = subprocess.run(command, check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert answer.stdout == printed
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
PREPARE = {"bash": "", "zsh": "autoload -U compinit; compinit -D -u; ", "fish": ""}
TO_FRONT, TO_END = "\x01", "\x05"


def typed_in(shell: str, folder: Path, line: str, wanted: str) -> str:
    """Type a line with the tab key into a shell; return what its words are then."""
    program = folder / "sqtune"
    program.write_text(f"#!{sys.executable}\nfrom sqtune.cli import main\n\nmain()\n")
    program.chmod(0o755)
    (folder / "script").write_text(script(main, shell))
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    environ |= {"TERM": "dumb", "HOME": str(folder), "PS1": "$ "}
    pid, near = pty.fork()
    if pid == 0:
        os.execvpe(START[shell][0], START[shell], environ)
    try:
        os.write(near, f"{PREPARE[shell]}source {folder}/script; echo re''ady\n".encode())
        seen = read_until(near, "ready")
        os.write(near, f"{line}\t".encode())
        seen += read_until(near, wanted)
        os.write(near, f"{TO_FRONT}printf '<%s>' {TO_END} END\n".encode())
        return seen + read_until(near, "<END>")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(near)


def read_until(terminal: int, text: str) -> str:
    seen, deadline = "", time.monotonic() + 30
    while text not in seen:
        assert time.monotonic() < deadline, repr(seen)
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes_a_command_an_option_and_a_name(shell, store, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    name = NAMES[0]
    assert "<sqtune><completion>" in typed_in(shell, tmp_path, "sqtune compl", "completion")
    found = typed_in(shell, tmp_path, "sqtune show --wat", "--watch")
    assert "<sqtune><show><--watch>" in found
    line = f"sqtune show --store {shlex.quote(str(store))} mei"
    assert f"<{store}><{name}>" in typed_in(shell, tmp_path, line, "语")
    line = "sqtune plan --set trial.optimizer.mom"
    assert "<trial.optimizer.momentum=" in typed_in(shell, tmp_path, line, "momentum=")


def test_the_command_prints_the_script():
    for shell in SHELLS:
        answer = CliRunner().invoke(main, ["completion", shell])
        assert answer.exit_code == 0
        assert f"{VARIABLE}={shell}_complete" in answer.stdout
