"""Two processes that train one model together: same rows, same gradients, same steps."""

from __future__ import annotations

import socket
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from sqtune.quant import Activations, LearnedUniform, Selection, StochasticQuantization

NUM_PROCESSES = 2
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo over loopback")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))


def batches() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 8, 1, 6, 6, generator=generator)
    x[:, 4:].abs_()  # only one of the processes sees that inputs are signed
    return x, torch.randint(4, (5, 8), generator=generator)


def train(rank: int | None, port: int, folder: str) -> dict[str, list[Tensor]]:
    """Train on this process's half of each batch, or on whole batches where rank is None."""
    torch.set_num_threads(1)
    group = None
    if rank is not None:
        distributed.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=NUM_PROCESSES
        )
        group = distributed.group.WORLD
    model = network()
    sq = StochasticQuantization(
        model,
        LearnedUniform(bits=2),
        selection=Selection(),
        activations=Activations(bits=4),
        process_group=group,
    )
    wrapped = model if rank is None else nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD([*model.parameters(), *sq.parameters()], lr=0.1, momentum=0.9)
    masks, gradients = [], []
    for x, y in zip(*batches(), strict=True):
        optimizer.zero_grad()
        for part in range(2):  # gradient accumulation: the first part is not synchronised
            halves = [slice(4 * r + 2 * part, 4 * r + 2 * part + 2) for r in range(NUM_PROCESSES)]
            mine = [halves[rank]] if rank is not None else halves
            ids = torch.cat([torch.arange(8)[half] for half in mine])
            unsynced = rank is not None and part == 0
            with wrapped.no_sync() if unsynced else nullcontext(), sq.hybrid(ratio=0.5):
                nn.functional.cross_entropy(wrapped(x[ids]), y[ids]).backward()
            masks += sq.state_dict()["masks"].values()
        gradients += [p.grad.clone() for p in (*model.parameters(), *sq.parameters())]
        optimizer.step()
    weights = [p.detach().clone() for p in (*model.parameters(), *sq.parameters())]
    found = {"masks": masks, "gradients": gradients, "weights": weights}
    if rank is not None:
        torch.save(found, Path(folder) / f"{rank}.pt")
        distributed.destroy_process_group()
    return found


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
def test_two_processes_draw_the_same_rows_and_train_what_one_would(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, (port, str(tmp_path)), nprocs=NUM_PROCESSES)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_PROCESSES))
    for what in ("masks", "gradients", "weights"):
        assert all(map(torch.equal, one[what], other[what])), what
    alone = train(None, port, str(tmp_path))
    assert all(map(torch.equal, one["masks"], alone["masks"]))
    for what in ("gradients", "weights"):
        for ours, expected in zip(one[what], alone[what], strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
