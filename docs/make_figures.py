"""Draws the figures of docs/method.md with sqtune itself: `make figures` (a minute on a CPU).

One ResNet-8 on handwritten digits is trained; everything in a figure is computed or trained here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from sqtune.config.trial import TrialConfig
from sqtune.quant import (
    Average,
    CosineRise,
    Cubic,
    Exponential,
    Linear,
    Selection,
    Stages,
    select_rows,
)
from sqtune.quant.schedule import epoch_ratio
from sqtune.train.history import LAYERS
from sqtune.train.loop import train

PICTURES = Path(__file__).parent / "pictures"
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
DASHES: Sequence[Any] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
EPOCHS = 32
DRAWS = 20_000
LAYER = "group2.0.conv1.weight"
CONFIG = TrialConfig.model_validate_json(
    json.dumps(
        {
            "data": {"name": "digits", "crop_padding": 1, "mirror": False},
            "network": {"name": "resnet8", "width": 16},
            "quantizer": {"name": "binary"},
            "schedule": {"name": "exponential"},
            "batch_size": 64,
            "num_epochs": EPOCHS,
        }
    )
)


def schedules() -> Figure:
    """Draw the share of the filters that is quantized, over the training."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    shown = {
        "exponential": Exponential(),
        "exponential, warmup 0.2": Exponential(warmup=0.2),
        "average": Average(),
        "linear, reach 0.8": Linear(reach=0.8),
        "cubic": Cubic(),
        "cosine": CosineRise(),
    }
    steps = 400
    for index, (name, schedule) in enumerate(shown.items()):
        ratios = [schedule.ratio(step / steps) for step in range(steps + 1)]
        axes.plot([step / steps for step in range(steps + 1)], ratios, ls=DASHES[index], label=name)
    axes.plot([0, 1], [Stages(ratios=(1,)).ratio(p) for p in (0.0, 1.0)], color=GREY, lw=3,
              alpha=0.4, label="stages, ratios [1]: none")  # fmt: skip
    axes.set(xlabel="progress of the training", ylabel="ratio", ylim=(-0.03, 1.06))
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def chances() -> Figure:
    """Draw how often each of 16 filters is quantized at a ratio of one half."""
    error_M = torch.linspace(0.2, 0.8, 16)
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    functions = ("constant", "sigmoid", "linear", "error", "softmax")
    for index, function in enumerate(functions):
        generator = torch.Generator().manual_seed(0)
        drawn = torch.zeros(16)
        for _ in range(DRAWS):
            drawn += select_rows(error_M, 0.5, Selection(function), generator)
        axes.plot(error_M, drawn / DRAWS, marker="os^Dv"[index], ms=4, ls=DASHES[index],
                  label=function)  # fmt: skip
    lowest = select_rows(error_M, 0.5, Selection(strategy="deterministic"), None)
    axes.step(error_M, lowest.float(), where="mid", color=GREY, lw=1, label="deterministic")
    axes.set(xlabel="quantization error of the filter", ylabel="share of steps quantized")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def rows(history: dict[str, torch.Tensor]) -> Figure:
    """Draw which filters of a layer were quantized in each epoch, and their errors."""
    drawn_EO, error_EO = history[f"{LAYER}.drawn"], history[f"{LAYER}.error"]
    order = error_EO[0].argsort()
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    above, middle, below = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1))
    for axes, values, label, colours in (
        (above, drawn_EO, "share of the epoch's steps", "cividis"),
        (middle, error_EO, "quantization error", "magma"),
    ):
        image = axes.imshow(
            values[:, order].T, aspect="auto", cmap=colours, interpolation="nearest",
            extent=(0.5, EPOCHS + 0.5, len(order), 0), vmin=0 if axes is above else None,
        )  # fmt: skip
        axes.set_ylabel("filter, by its first error")
        figure.colorbar(image, ax=axes, label=label)
    epochs = range(1, EPOCHS + 1)
    below.step(epochs, [epoch_ratio(CONFIG.schedule, epoch, EPOCHS) for epoch in epochs],
               where="mid", color=BLUE)  # fmt: skip
    below.set(xlabel="epoch", ylabel="ratio", ylim=(0, 1.1))
    return figure


def errors(results: Sequence[Any]) -> Figure:
    """Draw the two errors that can be measured of a network while it trains."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    epochs = [result.epoch for result in results]
    above.plot(epochs, [100 * result.val_error_hybrid for result in results], color=BLUE, ls="--",
               label="the network as it trains (hybrid)")  # fmt: skip
    above.plot(epochs, [100 * result.val_error for result in results], color=ORANGE,
               label="all weights quantized: what would be deployed")  # fmt: skip
    above.set(ylabel="validation error (%)", yscale="log")
    above.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    above.legend(frameon=False)
    below.step(epochs, [result.ratio for result in results], where="mid", color=GREY)
    below.set(xlabel="epoch", ylabel="ratio", ylim=(0, 1.1))
    return figure


def main() -> None:
    style: Any = {"svg.hashsalt": "sqtune", "svg.fonttype": "none", "font.size": 9.0}
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, mpl.rc_context(style):
        network = Path(folder) / "network"
        results = list(train(CONFIG, num_threads=1, save_to=network))
        figures = {
            "schedules": schedules(),
            "chances": chances(),
            "rows": rows(load_file(network / LAYERS)),
            "errors": errors(results),
        }
        for name, figure in figures.items():
            for axes in figure.axes:
                axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
