"""Trains and decodes one pointer network here and in PyTorch: `python -m benchmarks.pointer`.

The model of Vinyals et al. 2015: an LSTM of 256 units reads ten cities, another points at them, by
an additive score of width 256; batches of 128, Adam with its fused form in both, cities and tours
made beforehand. PyTorch runs `nn.LSTM` over whole sequences and points at all steps at once in
training, eager and compiled; it decodes with `nn.LSTMCell`, eager and with its step compiled. The
best form of it is the peer. What counts is instances a second.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import race
from configs import ptrnet_tsp

ROWS, CITIES, HIDDEN, RATE = 128, 10, 256, 1e-3
STEPS = 8  # a round is so many batches
CPU_DEVICES = ptrnet_tsp.get_config().cpu_devices


def batches() -> list[dict[str, np.ndarray]]:
    """Cities, and tours from the first of them, as both take them: any will do for timing."""
    rng = np.random.default_rng(0)
    rest = lambda: np.argsort(rng.random((ROWS, CITIES - 1)), axis=1) + 1
    return [
        {
            "points": rng.random((ROWS, CITIES, 2), np.float32),
            "choices": np.pad(rest(), ((0, 0), (1, 0))).astype(np.int32),
        }
        for _ in range(STEPS)
    ]


def our_task() -> Any:
    """The task of configs/ptrnet_tsp.py at this size, given its instances."""
    import jax.numpy as jnp

    from tasks.pointing.instances import Points
    from tasks.pointing.tsp import TSP

    class Given(TSP):
        def example(self, batch, key):
            return Points(batch["points"], jnp.int32(CITIES), batch["choices"])

    config = ptrnet_tsp.get_config()
    config.data.sizes = (CITIES, CITIES)
    config.batch = ROWS
    config.model.update(hidden=HIDDEN, width=HIDDEN)
    config.optimizer.update(schedule="constant", steps=None, warmup=0, peak=RATE, clip=0.0)
    return Given(config, "")


def train_ours() -> Callable[[], None]:
    """Our training step."""
    return race.train_ours(our_task(), batches(), CPU_DEVICES)


def decode_ours() -> Callable[[], None]:
    """Our greedy tours."""
    import jax

    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    task = our_task()
    params = jax.jit(task.init)(jax.random.key(1)).params
    params = mesh.replicate(params, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    with mesh.split_rows(params) as split:
        placed = [split(batch["points"]) for batch in batches()]

    def run():
        for points in placed:
            task._answers(params, points, n=CITIES, free=False).block_until_ready()

    return run


def torch_model() -> Any:
    """The same network."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.LSTM(2, HIDDEN, batch_first=True)
            self.decoder = nn.LSTM(2, HIDDEN, batch_first=True)
            self.cell = nn.LSTMCell(2, HIDDEN)  # decodes: timing asks for no trained weights
            self.start = nn.Parameter(torch.zeros(2))
            self.query = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.key = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.vector = nn.Parameter(torch.randn(HIDDEN) * HIDDEN**-0.5)

        def point(self, states, keys, may):
            hidden = torch.tanh(self.query(states)[:, :, None] + keys[:, None])
            return (hidden @ self.vector).masked_fill(~may, -torch.inf)

        def forward(self, points, choices):
            outputs, state = self.encoder(points)
            chosen = points.gather(1, choices[:, :-1, None].expand(-1, -1, 2))
            inputs = torch.cat([self.start.expand(len(points), 1, 2), chosen], 1)
            states, _ = self.decoder(inputs, state)
            one_hot = nn.functional.one_hot(choices, points.shape[1])
            may = one_hot.cumsum(1) - one_hot == 0
            logits = self.point(states, self.key(outputs), may)
            cost = nn.functional.cross_entropy(logits.flatten(0, 1), choices.flatten())
            return cost * choices.shape[1]

        def step(self, inputs, hidden, cell, keys, left):
            hidden, cell = self.cell(inputs, (hidden, cell))
            choice = self.point(hidden[:, None], keys, left[:, None])[:, 0].argmax(1)
            return choice, hidden, cell, left.scatter(1, choice[:, None], False)

        def decode(self, points, step):
            outputs, (hidden, cell) = self.encoder(points)
            hidden, cell, keys = hidden[0], cell[0], self.key(outputs)
            left = torch.ones_like(points[..., 0], dtype=torch.bool)
            inputs, tour = self.start.expand(len(points), 2), []
            first = torch.zeros_like(left)
            first[:, 0] = True
            for n in range(points.shape[1]):
                may = left if n else first
                choice, hidden, cell, after = step(inputs, hidden, cell, keys, may)
                left = after if n else ~first
                inputs = points.gather(1, choice[:, None, None].expand(-1, 1, 2))[:, 0]
                tour.append(choice)
            return torch.stack(tour, 1)

    return Model()


def train_torch(compiled: bool) -> Callable[[], None]:
    """Its training step."""
    import torch

    device = race.torch_device()
    model = torch_model().to(device)
    adam = torch.optim.Adam(model.parameters(), RATE, fused=True)
    loss_of = torch.compile(model) if compiled else model
    placed = [
        (
            torch.tensor(batch["points"], device=device),
            torch.tensor(batch["choices"], dtype=torch.long, device=device),
        )
        for batch in batches()
    ]

    def run():
        for points, choices in placed:
            adam.zero_grad(set_to_none=True)
            loss = loss_of(points, choices)
            loss.backward()
            adam.step()
        loss.item()

    return run


def decode_torch(compiled: bool) -> Callable[[], None]:
    """Its greedy tours."""
    import torch

    device = race.torch_device()
    model = torch_model().eval().to(device)
    step = torch.compile(model.step) if compiled else model.step
    placed = [torch.tensor(batch["points"], device=device) for batch in batches()]

    def run():
        with torch.inference_mode():
            for points in placed:
                model.decode(points, step).cpu()

    return run


def main() -> None:
    """Prints a table and a line of JSON for each part; the last is that of training."""
    for part, ours, theirs in (
        ("greedy", decode_ours, decode_torch),
        ("training", train_ours, train_torch),
    ):
        forms: dict[str, race.Contestant] = {
            "ours": ours,
            "torch eager": partial(theirs, False),
            "torch compiled": partial(theirs, True),
        }
        race.compare(f"pointer {part}", STEPS * ROWS, forms, unit="instances/s")


if __name__ == "__main__":
    main()
