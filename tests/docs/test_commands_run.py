"""Every sqtune command of the documents is run, by a reader of one page after the other.

The tutorial's, and the cookbook's on its images, are run by test_tutorial.py as they stand. Those
here train less than the documents say, and nothing else is changed.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from .blocks import DOCUMENTS, ROOT, blocks, commands, commands_in, run

pytestmark = pytest.mark.timeout(600)

RUN_AS_THEY_STAND = ("docs/tutorial.md", "docs/cookbook.md")
READ = (
    "README.md",
    "docs/index.md",
    "docs/command-line.md",
    "docs/report.md",
    "docs/cookbook.md",
    "docs/deploy.md",
)
QUICK = "sqtune search --space search_spaces/resnet.yaml --name quick"  # the README's short demo
SHORTER = {
    QUICK: "--trials 1 --set trial.num_epochs=1",
    "sqtune search": "--trials 8 --set trial.num_epochs=4",
    "sqtune confirm": "--top 1 --seeds 2",
    "sqtune compare": "--seeds 1 --set trial.num_epochs=2",
    "sqtune train": "--set trial.num_epochs=4",
}
ELSEWHERE = {
    "--address": "a cluster: tests/search/test_cluster.py, tests/cluster",
    "sqtune compare --space search_spaces/paper/": "GPU days: tests/config/test_compare_spaces.py",
    "sqtune compare --space search_spaces/compare_resnet8.yaml": "hours, CIFAR-10: docs/results.md",
    "sqtune compare --space search_spaces/ablations_resnet8.yaml": "hours, as above",
    "sqtune search --space search_spaces/cifar10_32k.yaml": "hours, as above",
    "sqtune export --trial 0 --form c": "of that search",
    "sqtune ui": "goes on until Ctrl-C: below",
    "sqtune show --watch": "goes on until Ctrl-C: tests/search/test_watch.py",
}


def reason(line: str) -> str | None:
    return next((why for part, why in ELSEWHERE.items() if part in line), None)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "search_spaces").symlink_to(ROOT / "search_spaces")
    (folder / "photos").mkdir()
    for number, pixels in enumerate(load_digits().images[:3]):
        image = Image.fromarray((pixels * 15.9375).astype("uint8"))
        image.save(folder / "photos" / f"{number}.png")
    for line in (QUICK, "sqtune search --space search_spaces/resnet.yaml"):
        type_in(line, folder)
    return folder


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return what has been run: a command that several documents have is run once."""
    return set()


def type_in(line: str, folder: Path) -> str:
    """Run a command as a document has it, with less to train, in place of what it wrote before."""
    out = re.search(r"--out (\S+)", line)
    if out and "--force" not in line:
        shutil.rmtree(folder / out[1], ignore_errors=True)
    for page in folder.glob("*.html"):
        page.unlink()
    more = next((less for start, less in SHORTER.items() if line.startswith(start)), "")
    return run("bash", f"{line} {more}", folder)


@pytest.mark.long
@pytest.mark.parametrize("document", READ)
def test_the_commands_of_a_document_run(document: str, desk: Path, known: set[str]) -> None:
    for kind, text in blocks(document, "yaml", ""):
        if kind == "yaml":
            (desk / "FILE").write_text(text)  # as the cookbook calls the one above
            continue
        for line in commands_in(text):
            if reason(line) is None and line not in known:
                printed = type_in(line, desk)
                known.add(line)
                if line.startswith("sqtune export"):
                    assert "classes equal" in printed
                if line.startswith("sqtune predict"):
                    assert all(f"{number}.png" in printed for number in range(3))


@pytest.mark.long
def test_the_registered_network_is_loaded_as_deploy_says(desk: Path) -> None:
    if not (desk / "small").exists():
        type_in("sqtune export resnet --out small", desk)
    ((_, code),) = blocks("docs/deploy.md", "python")
    pixels = "import numpy\npixels = numpy.zeros((2, 1, 8, 8), dtype=numpy.uint8)\n"
    assert run("python", f"{pixels}{code}\nprint(logits.shape)", desk).endswith("(2, 10)\n")


@pytest.mark.long
def test_the_addresses_of_ui_answer(desk: Path) -> None:
    with subprocess.Popen(["sqtune", "ui"], cwd=desk, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        first = next(line for line in server.stdout if "http://" in line)
        address = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert address
        with urllib.request.urlopen(address[0], timeout=30) as page:
            assert "MLflow" in page.read().decode()
        server.send_signal(signal.SIGINT)
        server.stdout.read()
    assert server.returncode in (0, 130)


def test_no_command_is_left_out() -> None:
    everywhere = {line for document in DOCUMENTS for line in commands(document)}
    run_here = {line for document in READ for line in commands(document)}
    run_there = {line for document in RUN_AS_THEY_STAND for line in commands(document)}
    assert [line for line in everywhere - run_here - run_there if reason(line) is None] == []
    assert [part for part in ELSEWHERE if not any(part in line for line in everywhere)] == []
