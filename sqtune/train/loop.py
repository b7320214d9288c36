"""The training loop: `for result in train(config): ...`; knows nothing of Ray, Optuna or MLflow."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sqtune.config.trial import TrialConfig
from sqtune.data.prepare import prepare
from sqtune.data.split import Splits
from sqtune.networks import check_image_size
from sqtune.train.checkpoint import About, load_network, save_network
from sqtune.train.compute import computing_on
from sqtune.train.evaluate import top_errors
from sqtune.train.result import METRICS, EpochResult
from sqtune.train.stage_session import StagedTraining, StageSession
from sqtune.train.training import Training

__all__ = ["METRICS", "EpochResult", "StageSession", "saved_error", "saved_errors", "train"]


def train(
    config: TrialConfig,
    *,
    splits: Splits | None = None,
    device: str = "cpu",
    num_threads: int | None = None,
    save_to: Path | None = None,
    stages: StageSession | None = None,
) -> Iterator[EpochResult]:
    """Train one network with Stochastic Quantization and yield a result after each epoch.

    On CPU the results depend on the configuration, the versions and the number of threads only,
    not on what ran before in the process; torch's global generator is left as it was. With a stage
    store they are the same, bit for bit: epochs that are stored are taken up instead of trained,
    and every epoch trained is stored before its result is yielded.

    Args:
        config: What to train.
        splits: The data, when they are at hand; otherwise read as `config.data` says.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: CPU threads of torch; None leaves them as they are.
        save_to: Folder for the trained network (`sqtune.train.checkpoint`), written before the
            last result is yielded.
        stages: Where stages are stored and taken from; None trains every epoch.

    Raises:
        TrainingError: The loss is no longer finite.
        NetworkError: The images are too small for the network.
        DataError: The data cannot be read.
        StoreError: The weights to start from, or the teacher, cannot be read or do not fit.
        StageBusy: Another training is at work on the stage that comes next. What came before it is
            stored; begin again later.
    """
    target = torch.device(device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    readers = config.compute.readers(num_threads or torch.get_num_threads())
    splits = (splits or prepare(config.data)).with_workers(readers).to(target)
    check_image_size(config.network, *splits.image_size)
    training = Training(config, splits, target)
    with closing(_epochs(training, stages, num_threads)) as results:
        for result in results:
            if result.final and save_to is not None:
                about = _about(splits, result)
                with training.average.in_place():
                    save_network(
                        save_to,
                        config,
                        about,
                        training.model,
                        training.quantization,
                        training.history,
                    )
            yield result


def _epochs(
    training: Training, stages: StageSession | None, num_threads: int | None
) -> Generator[EpochResult]:
    """Yield every epoch's result, trained or taken up."""
    num_epochs = training.config.num_epochs
    staged = None if stages is None else StagedTraining(stages, training, num_threads)
    epoch, end = 0, num_epochs
    try:
        while epoch < num_epochs:
            if staged is not None:
                for result in staged.take_up():
                    yield result
                    epoch = result.epoch
                end = staged.stage_end(epoch) if epoch < num_epochs else epoch
            while epoch < end:
                epoch += 1
                if num_threads is not None:
                    torch.set_num_threads(num_threads)  # who shares the process may have changed it
                result = training.run_epoch(epoch)
                if staged is not None:
                    staged.save(result)
                yield result
    finally:
        if staged is not None:
            staged.release()


def check_start(config: TrialConfig, splits: Splits) -> None:
    """Do what a training does before its first step with the weights it reads.

    Raises:
        StoreError: Weights to start from, or the teacher, cannot be read or do not fit.
        NetworkError: The images do not suit the network.
        QuantizationError: A rule acts on no layer.
        ConfigError: What is cut out covers whole images.
    """
    Training(config, splits, torch.device("cpu"))


def _about(splits: Splits, result: EpochResult) -> About:
    return About(
        classes=splits.classes,
        num_channels=splits.num_channels,
        image_size=splits.image_size,
        mean=splits.mean,
        std=splits.std,
        data_fingerprint=splits.fingerprint,
        result={key: value for key, value in asdict(result).items() if key != "restored"},
    )


def saved_error(folder: Path, splits: Splits, part: str) -> float:
    """Return the error (0..1) of a saved network on one part of the data: `saved_errors`' first."""
    return saved_errors(folder, splits, part)[0]


def saved_errors(folder: Path, splits: Splits, part: str) -> tuple[float, float | None]:
    """Return top-1 and top-5 error (0..1) of a saved network on one part of the data.

    All its weights are quantized. It is measured on the CPU, as `compute` in its configuration says
    for one. Of ten classes or fewer there is no top-5 error.

    Args:
        folder: What `train(save_to=...)` wrote.
        splits: The data.
        part: "validation" or "test".
    """
    saved = load_network(folder)
    device = torch.device("cpu")
    computing = computing_on(device, saved.config.compute)
    model = computing.place(saved.model)
    inputs = computing.inputs(saved.about.mean, saved.about.std)
    split: Any = getattr(splits, part)
    with computing.autocast(), saved.quantization.quantized():
        return top_errors(model, split, inputs, device)
