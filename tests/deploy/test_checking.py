"""An exported folder is checked with ONNX Runtime, by its command too; missing files are named."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exported_folders import (
    MANIFEST,
    MODEL,
    README,
    VERIFY,
    refuses,
    small_folder,
)

import sqtune.deploy.checking as checking_module
from sqtune.deploy.checking import check_folder, main
from sqtune.quant import Binary, Float, Ternary, Uniform

QUANTIZERS = [Binary(), Ternary(), Float(), *(Uniform(bits=bits) for bits in (2, 3, 4, 8))]


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_what_was_exported_is_whole(tmp_path, quantizer, form):
    folder = small_folder(tmp_path / "deployed", quantizer, form)
    report = check_folder(folder)
    assert (report.form, report.activations, report.num_files) == (form, "float", 3)
    assert report.num_bytes == sum(
        (folder / name).stat().st_size for name in (MODEL, VERIFY, README)
    )
    assert (report.num_layers, report.num_packed) == (10, 0 if quantizer == Float() else 10)
    assert report.num_codes == (0 if quantizer == Float() else 5436)
    for agreement in (report.optimised, report.plain):
        assert (agreement.num_images, agreement.num_equal, agreement.num_ties) == (16, 16, 0)
        assert agreement.max_difference < 1e-6
    assert report.extra_files == ()


def test_the_command_prints_a_line_for_each_check(folder):
    (folder / "notes\x1b[31m.txt").write_text("mine")
    done = run_command(folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    begins = ["manifest", "files", "runtime", "weights", "optimised", "plain", str(folder)]
    assert [line.split(" ")[0] for line in lines] == begins
    assert r"beside them 'notes\x1b[31m.txt'" in lines[1]
    assert "16 of 16 classes equal, 0 ties" in lines[4]


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "sqtune.deploy.checking", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(checking_module.__file__).parents[2],
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("missing", ["numpy", "onnxruntime"])
def test_without_numpy_or_onnx_runtime_it_says_so(folder, tmp_path, missing):
    (tmp_path / "without").mkdir()
    line = f"raise ModuleNotFoundError(\"No module named '{missing}'\", name='{missing}')\n"
    (tmp_path / "without" / f"{missing}.py").write_text(line)
    done = run_command(folder, PYTHONPATH=str(tmp_path / "without"))
    assert done.returncode == 2
    assert f"error: No module named '{missing}'; the check needs numpy and ONNX" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_needs_nothing_but_numpy_and_onnx_runtime():
    names = ("checking", "checks.predictions", "checks.stored_images", "checks.unpack", "runtime")
    code = f"import sys, {', '.join('sqtune.deploy.' + name for name in names)};"
    code += "print({name.partition('.')[0] for name in sys.modules} - {*sys.stdlib_module_names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {name for name in ast.literal_eval(done.stdout) if not name.startswith("_")}
    assert found <= {"numpy", "sqtune", "sitecustomize", "usercustomize"}


def exit_code(folder, capsys):
    code = main([str(folder)])
    assert "Traceback" not in capsys.readouterr().err
    return code


def test_exit_codes(folder, tmp_path, capsys):
    assert exit_code(folder, capsys) == 0
    assert main([]) == main(["--help"]) == main(["a", "b"]) == 2
    assert exit_code(tmp_path / "nowhere", capsys) == 2
    (folder / README).unlink()
    assert exit_code(folder, capsys) == 1


@pytest.mark.parametrize("name", [MODEL, VERIFY, README, MANIFEST])
def test_a_missing_a_changed_and_a_lengthened_file(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + b" ")
    refuses(folder, f"{name} was changed")
    (folder / name).unlink()
    refuses(folder, f"{name} is missing")
    (folder / name).mkdir()
    refuses(folder, f"{name} is no plain file")
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    refuses(folder, f"{name} is no plain file")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refuses(folder, f"{name} (cannot be read|is missing)")


def test_a_link_inside_of_the_folder_is_fine_and_one_that_leads_out_is_not(folder, tmp_path):
    (folder / README).rename(folder / "moved.md")
    (folder / README).symlink_to("moved.md")
    check_folder(folder)
    (folder / "moved.md").rename(tmp_path / "moved.md")
    (folder / README).unlink()
    (folder / README).symlink_to("../moved.md")
    refuses(folder, "README.md leads out of its folder")
