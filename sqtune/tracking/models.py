"""The model registry: an exported network as a version that MLflow loads by name.

The exported folder becomes an artifact of its trial's run. `model.onnx` becomes an MLflow model
of that run, byte for byte, and a version of the registered model `sqtune-STUDY`. The alias
`trial-NUMBER` points to a trial's last export, `best` to that of the study's best network. The run
itself has ended; its status, times, metrics, parameters and tags stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.store import file_name
from sqtune.tracking.database import database_of
from sqtune.tracking.model_folder import MODEL_FILE, write_model
from sqtune.tracking.quiet import quiet
from sqtune.tracking.runs import NOTE_TAG
from sqtune.tracking.worker import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

BEST_ALIAS = "best"
ARTIFACT_FOLDER, MODEL_NAME = "export", "network"
SHA256_TAG = "sqtune.sha256"
TIMEOUT, LEAST_UPLOAD_SECONDS = "MLFLOW_HTTP_REQUEST_TIMEOUT", 120


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a registered model.

    Attributes:
        name: Of the registered model.
        version: Its number.
        uri: What `mlflow.pyfunc.load_model` and `mlflow.onnx.load_model` take.
        new: Whether it was made now; otherwise the same bytes had been registered before.
    """

    name: str
    version: int
    uri: str
    new: bool


def model_name(study: str) -> str:
    """Return the registered model's name; other studies have other names.

    MLflow refuses some characters; a study's name that has any but letters, digits, "_" and "-"
    gets them replaced and a short hash. The model's tag `sqtune.study` has the name as it is.

    >>> model_name("resnet")
    'sqtune-resnet'
    """
    return f"sqtune-{file_name(study)}"


def register(
    uri: str | None,
    study: str,
    run_id: str | None,
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    best: bool = False,
) -> Registered | None:
    """Log an exported folder to its trial's run, and register its `model.onnx`.

    Asked again after whatever kept it from ending, it goes on and doubles nothing.

    Args:
        uri: MLflow's tracking URI; None where none is known.
        study: The study's name.
        run_id: Of the trial's run.
        folder: What was exported.
        manifest: What is in its `manifest.json`.
        best: Whether it is the network that the study hands over unless another is asked for.

    Returns:
        The version; None where the folder has no `model.onnx`.

    Raises:
        TrackingError: MLflow has no such run, does not answer, or refuses something, or there is
            no URI. What was exported is as good without.
    """
    if run_id is None:
        raise TrackingError(
            f'trial {manifest["source"]["trial"]} of "{study}" has no MLflow run, so MLflow does '
            "not have what was exported. The same search command records it; then export it with "
            "--force."
        )
    if uri is None:
        raise _not_registered("a store under a URL has no database for it, so give --tracking-uri")
    _refuse_missing_database(uri)
    with quiet():
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            run = client.get_run(run_id)
        except Exception as error:  # whatever MLflow, SQLAlchemy or a socket raises
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                why = f"{without_password(uri)} has no run {run_id}"
            else:
                shown = without_password(uri)
                why = f"the tracking store {shown} does not answer: {first_line(error)}"
            raise _not_registered(why) from error
        try:
            with _patient_uploads():
                client.log_artifacts(run_id, str(folder), f"{ARTIFACT_FOLDER}/{manifest['form']}")
            if not (folder / MODEL_FILE).exists():
                return None
            return _register(client, study, run, folder, manifest, best=best)
        except Exception as error:  # likewise, or the client of whatever has the artifacts
            raise _not_registered(first_line(error)) from error


def _register(
    client: MlflowClient,
    study: str,
    run: Run,
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    best: bool,
) -> Registered:
    name = model_name(study)
    data = (folder / MODEL_FILE).read_bytes()
    tags = _tags(study, data, manifest)
    same = f"name = '{name}' and tags.`{SHA256_TAG}` = '{tags[SHA256_TAG]}'"
    versions: list[ModelVersion] = list(client.search_model_versions(same))
    new = not versions
    if new:
        model = _logged_model(client, run, folder, manifest, tags)
        about = _about(study, f"models:/{model.model_id}", len(data), manifest)
        _make_registered_model(client, name, study)
        # not "models:/ID": MLflow looks that up in the tracking store of the process
        source = model.artifact_location
        version = client.create_model_version(
            name, source, run.info.run_id, tags, description=about, model_id=model.model_id
        )
        # servers do this themselves: the model's page shows the version
        shown = json.dumps([{"name": name, "version": version.version}])
        more = {"mlflow.modelVersions": shown, NOTE_TAG: about}
        client.set_logged_model_tags(model.model_id, more)
    else:
        version = max(versions, key=lambda each: int(each.version))
    alias = f"trial-{manifest['source']['trial']}"
    for each in (alias, BEST_ALIAS) if best else (alias,):
        client.set_registered_model_alias(name, each, str(version.version))
    uri = f"models:/{name}@{BEST_ALIAS if best else alias}"
    return Registered(name, int(version.version), uri, new)


def _about(study: str, uri: str, num_bytes: int, manifest: Mapping[str, Any]) -> str:
    """Return what an exported file is, how good, and how to run it, in Markdown."""
    errors, source = manifest["errors"], manifest["source"]
    measured = [
        f"{split} error {100 * errors[key]:.2f} % of {errors[f'num_{key}']:,} images"
        for split, key in (("validation", "validation"), ("test", "test"))
        if errors.get(key) is not None
    ]
    pixels = " x ".join(map(str, manifest["input"]["shape"]))
    return (
        f'Trial {source["trial"]} of the study "{study}" as an ONNX file of {num_bytes:,} bytes: '
        f"{', '.join(measured)}, measured with the file.\n\n"
        f"It takes images as they are (uint8, N x {pixels}) and gives the logits of "
        f"{len(manifest['classes'])} classes.\n\n"
        "```python\nimport mlflow\n\n"
        f'model = mlflow.pyfunc.load_model("{uri}")\n'
        f'logits = model.predict(images)["{manifest["output"]["name"]}"]\n```'
    )


def _tags(study: str, data: bytes, manifest: Mapping[str, Any]) -> dict[str, str]:
    errors = manifest["errors"]
    tags = {
        "sqtune.study": study,
        "sqtune.trial": manifest["source"]["trial"],
        "sqtune.form": manifest["form"],
        "sqtune.size_bytes": len(data),
        SHA256_TAG: hashlib.sha256(data).hexdigest(),
        "sqtune.val_error": errors.get("validation"),
        "sqtune.test_error": errors.get("test"),
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


def _logged_model(
    client: MlflowClient,
    run: Run,
    folder: Path,
    manifest: Mapping[str, Any],
    tags: Mapping[str, str],
) -> LoggedModel:
    """Return the run's MLflow model of this file, made now unless it is there and complete."""
    query = f"source_run_id = '{run.info.run_id}' and tags.`{SHA256_TAG}` = '{tags[SHA256_TAG]}'"
    for found in client.search_logged_models([run.info.experiment_id], query):
        if found.status == "READY":
            return found
        client.delete_logged_model(found.model_id)  # left by an export that was cut short
    model = client.create_logged_model(
        run.info.experiment_id, MODEL_NAME, run.info.run_id, dict(tags), model_type="onnx"
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "model"
        write_model(place, model, folder, manifest)
        with _patient_uploads():
            client.log_model_artifacts(model.model_id, str(place))
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _make_registered_model(client: MlflowClient, name: str, study: str) -> None:
    from mlflow.exceptions import MlflowException

    about = (
        f'Networks exported from the study "{study}". They take pixels (uint8, N x C x H x W) and '
        "give logits."
    )
    try:
        client.create_registered_model(name, {"sqtune.study": study}, about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _refuse_missing_database(uri: str) -> None:
    """Refuse a file that is not there: MLflow would make one, or wait for minutes."""
    path = database_of(uri)
    if path is not None and not path.is_file():
        raise _not_registered(f"there is no file {path}")


def _not_registered(why: str) -> TrackingError:
    return TrackingError(
        f"MLflow does not have what was exported: {why}. The files are complete; the same command "
        "with --force registers them."
    )


@contextmanager
def _patient_uploads() -> Iterator[None]:
    """Wait longer for a server that stores a large file before it answers."""
    before = os.environ[TIMEOUT]
    os.environ[TIMEOUT] = str(max(int(before), LEAST_UPLOAD_SECONDS))
    try:
        yield
    finally:
        os.environ[TIMEOUT] = before
