"""Whether an exported folder of any form is still what it was when it was proven."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqtune.deploy.checking import VERIFY, check_folder
from sqtune.deploy.checks.described import MAX_MANIFEST_BYTES, Described, described
from sqtune.deploy.checks.folder_files import check_files, read_file
from sqtune.deploy.checks.predictions import Agreement, check_predictions, tolerance_of
from sqtune.deploy.checks.seal import MANIFEST
from sqtune.deploy.checks.stored_images import stored_images
from sqtune.deploy.exported import MODEL_FILES
from sqtune.deploy.forms import runs
from sqtune.errors import ExportError


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be as it was exported.

    Attributes:
        folder: That was checked.
        form: Of its file.
        agreements: How the file's predictions compare with the trained network's, by the way in
            which it was run.
        lines: Every check in words.
    """

    folder: Path
    form: str
    agreements: dict[str, Agreement]
    lines: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = {way: asdict(agreement) for way, agreement in self.agreements.items()}
        return {"folder": str(self.folder), "form": self.form, "whole": True, "predictions": found}


def verify_folder(folder: Path, *, run_factory: bool = False) -> Verified:
    """Check an exported folder: checksums, codes, scales and predictions.

    Args:
        folder: The folder.
        run_factory: Whether the code that a file for torch names may be run.

    Raises:
        ExportError: It is not as it was exported, or cannot be checked here.
        ConfigError: The factory is not there, or was not to be run.
    """
    lines: list[str] = []
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder. Give one that sqtune export wrote.")
    about = described(read_file(folder, MANIFEST, at_most=MAX_MANIFEST_BYTES))
    if about.oldest_runtime is not None:
        report = check_folder(folder, tell=lines.append)
        agreements = {"optimised": report.optimised, "plain": report.plain}
    else:
        agreements = _other_form(folder, about, lines, run_factory)
    return Verified(folder, about.form, agreements, tuple(lines))


def _other_form(
    folder: Path, about: Described, lines: list[str], run_factory: bool
) -> dict[str, Agreement]:
    num_bytes, files = check_files(folder, about.sha256, keep=(VERIFY,))
    lines.append(f"files      {len(about.sha256)} as they were written, {num_bytes:,} bytes")
    stored = stored_images(files[VERIFY], about.image_shape, about.num_classes)
    tolerance = tolerance_of(about.activations, about.num_rounded)
    agreements = {}
    ways = runs(folder, about.form, about.num_classes, run_factory=run_factory)
    for way, run in ways.items():
        what = f"{MODEL_FILES[about.form]} ({way})"
        agreements[way] = check_predictions(run, stored.images, stored.logits, tolerance, what)
        lines.append(f"{way:10} {agreements[way]}")
    return agreements
