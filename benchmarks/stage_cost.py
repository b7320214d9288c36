"""What storing a checkpoint after each epoch costs, beside the epoch itself.

    python benchmarks/stage_cost.py

Trains resnet8 and resnet20 on the digits (12 epochs, 1 thread, LSQ with low-bit activations: the
largest state) with a stage store in a temporary folder, times what the store takes, and prints the
ratio to the epochs' own time; then what it costs to take the whole training up again.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from sqtune.config import TrialConfig
from sqtune.config.training import Optimizer
from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.data.split import Splits
from sqtune.networks import ResNet
from sqtune.quant import Average, LearnedUniform
from sqtune.train.stage_session import StagedTraining, StageSession
from sqtune.train.stage_store import StageStore
from sqtune.train.training import Training

NETWORKS = (ResNet("resnet8", 8), ResNet("resnet8", 16), ResNet("resnet20", 16))
GIB = 2**30


def measured(network: ResNet, optimizer: str, splits: Splits, folder: Path) -> str:
    config = TrialConfig(
        network=network,
        quantizer=LearnedUniform(4),
        activation_bits=4,
        schedule=Average(warmup=0.25),
        optimizer=Optimizer(name=optimizer, lr=0.01),  # type: ignore[arg-type]
    )
    training = Training(config, splits, torch.device("cpu"))
    session = StageSession(StageStore(folder, GIB), "benchmark:1")
    staged = StagedTraining(session, training, 1)
    staged.take_up()
    epochs, saves = [], []
    for epoch in range(1, config.num_epochs + 1):
        started = time.perf_counter()
        result = training.run_epoch(epoch)
        trained = time.perf_counter()
        staged.save(result)
        if epoch < config.num_epochs:
            staged.take_up()
        epochs.append(trained - started)
        saves.append(time.perf_counter() - trained)
    assert session.problem is None
    size = max(entry.size_bytes for entry in session.store.entries())
    again = Training(config, splits, torch.device("cpu"))
    started = time.perf_counter()
    restored = StagedTraining(session, again, 1).take_up()
    taken = time.perf_counter() - started
    assert len(restored) == config.num_epochs
    epoch_s, save_s = statistics.median(epochs), statistics.median(saves)
    return (
        f"{network.name:<9}{network.width:>6}  {optimizer:<6} {epoch_s * 1000:9.0f} "
        f"{save_s * 1000:9.1f} {save_s / epoch_s:8.2%} {size / 2**20:8.2f} {taken * 1000:9.1f}"
    )


def main() -> None:
    torch.set_num_threads(1)
    splits = prepare(Digits())
    print("network   width  optim.  epoch ms   save ms    ratio      MiB   take up ms")
    for network in NETWORKS:
        for optimizer in ("sgd", "adamw"):
            with tempfile.TemporaryDirectory() as folder:
                print(measured(network, optimizer, splits, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
