"""Training and greedy decoding of a pointer network, compared with PyTorch.

    python -m benchmarks.pointer

The model follows Vinyals et al. 2015: LSTM encoder and decoder of 256 units, additive score of
width 256. Both implementations train with Adam (fused) on batches of 128 precomputed instances of
ten cities. PyTorch runs `nn.LSTM` over whole sequences in training, with one batched attention for
all steps, eager and compiled; it decodes with `nn.LSTMCell`, eager and with a compiled step. The
peer is the fastest PyTorch variant. The unit is instances per second.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import timing
from configs import ptrnet_tsp

BATCH, CITIES, HIDDEN, LEARNING_RATE = 128, 10, 256, 1e-3
STEPS = 8  # batches per round
CPU_DEVICES = ptrnet_tsp.get_config().cpu_devices


def batches() -> list[dict[str, np.ndarray]]:
    """Return random cities and random tours that start at the first city."""
    rng = np.random.default_rng(0)
    other_cities = lambda: np.argsort(rng.random((BATCH, CITIES - 1)), axis=1) + 1
    return [
        {
            "points": rng.random((BATCH, CITIES, 2), np.float32),
            "choices": np.pad(other_cities(), ((0, 0), (1, 0))).astype(np.int32),
        }
        for _ in range(STEPS)
    ]


def our_task() -> Any:
    """Build the task of configs/ptrnet_tsp.py at this size, with instances from the batch."""
    import jax.numpy as jnp

    from tasks.pointing.instances import Instances
    from tasks.pointing.tsp import TSP

    class PrecomputedTSP(TSP):
        def labeled_instances(self, batch, key):
            return Instances(batch["points"], jnp.int32(CITIES), batch["choices"])

    config = ptrnet_tsp.get_config()
    config.data.sizes = (CITIES, CITIES)
    config.batch = BATCH
    config.model.update(hidden=HIDDEN, width=HIDDEN)
    config.optimizer.update(schedule="constant", steps=None, warmup_steps=0, clip=0.0)
    config.optimizer.learning_rate = LEARNING_RATE
    return PrecomputedTSP(config, "")


def train_ours() -> Callable[[], None]:
    """Return a function that runs a round of our training steps."""
    return timing.make_train_fn(our_task(), batches(), CPU_DEVICES)


def decode_ours() -> Callable[[], None]:
    """Return a function that runs a round of our greedy decoding."""
    import jax

    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    task = our_task()
    params = jax.jit(task.init)(jax.random.key(1)).params
    params = mesh.replicate(params, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    with mesh.evaluation_mesh(params) as shard:
        sharded = [shard(batch["points"]) for batch in batches()]

    def run():
        for points in sharded:
            task.decode(params, points, 0, constrained=True).block_until_ready()

    return run


def torch_model() -> Any:
    """Return the same network in PyTorch."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.LSTM(2, HIDDEN, batch_first=True)
            self.decoder = nn.LSTM(2, HIDDEN, batch_first=True)
            self.cell = nn.LSTMCell(2, HIDDEN)  # for decoding; weights do not affect its time
            self.start_token = nn.Parameter(torch.zeros(2))
            self.query = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.key = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.vector = nn.Parameter(torch.randn(HIDDEN) * HIDDEN**-0.5)

        def logits(self, states, keys, mask):
            hidden = torch.tanh(self.query(states)[:, :, None] + keys[:, None])
            return (hidden @ self.vector).masked_fill(~mask, -torch.inf)

        def forward(self, points, choices):
            outputs, state = self.encoder(points)
            chosen = points.gather(1, choices[:, :-1, None].expand(-1, -1, 2))
            inputs = torch.cat([self.start_token.expand(len(points), 1, 2), chosen], 1)
            states, _ = self.decoder(inputs, state)
            one_hot = nn.functional.one_hot(choices, points.shape[1])
            mask = one_hot.cumsum(1) - one_hot == 0
            logits = self.logits(states, self.key(outputs), mask)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), choices.flatten())
            return loss * choices.shape[1]

        def step(self, inputs, hidden, cell, keys, mask):
            hidden, cell = self.cell(inputs, (hidden, cell))
            choice = self.logits(hidden[:, None], keys, mask[:, None])[:, 0].argmax(1)
            return choice, hidden, cell, mask.scatter(1, choice[:, None], False)

        def decode(self, points, step):
            outputs, (hidden, cell) = self.encoder(points)
            hidden, cell, keys = hidden[0], cell[0], self.key(outputs)
            unvisited = torch.ones_like(points[..., 0], dtype=torch.bool)
            inputs, tour = self.start_token.expand(len(points), 2), []
            first = torch.zeros_like(unvisited)
            first[:, 0] = True
            for n in range(points.shape[1]):
                mask = unvisited if n else first
                choice, hidden, cell, mask = step(inputs, hidden, cell, keys, mask)
                unvisited = mask if n else ~first
                inputs = points.gather(1, choice[:, None, None].expand(-1, 1, 2))[:, 0]
                tour.append(choice)
            return torch.stack(tour, 1)

    return Model()


def train_torch(compiled: bool) -> Callable[[], None]:
    """Return a function that runs a round of PyTorch training steps."""
    import torch

    device = timing.torch_device()
    model = torch_model().to(device)
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    loss_fn = torch.compile(model) if compiled else model
    tensors = [
        (
            torch.tensor(batch["points"], device=device),
            torch.tensor(batch["choices"], dtype=torch.long, device=device),
        )
        for batch in batches()
    ]

    def run():
        for points, choices in tensors:
            adam.zero_grad(set_to_none=True)
            loss = loss_fn(points, choices)
            loss.backward()
            adam.step()
        loss.item()

    return run


def decode_torch(compiled: bool) -> Callable[[], None]:
    """Return a function that runs a round of greedy decoding in PyTorch."""
    import torch

    device = timing.torch_device()
    model = torch_model().eval().to(device)
    step = torch.compile(model.step) if compiled else model.step
    tensors = [torch.tensor(batch["points"], device=device) for batch in batches()]

    def run():
        with torch.inference_mode():
            for points in tensors:
                model.decode(points, step).cpu()

    return run


def main() -> None:
    """Print a table and a JSON line for decoding, then for training."""
    for part, ours, torch_fn in (
        ("greedy", decode_ours, decode_torch),
        ("training", train_ours, train_torch),
    ):
        implementations: dict[str, timing.Implementation] = {
            "ours": ours,
            "torch eager": partial(torch_fn, False),
            "torch compiled": partial(torch_fn, True),
        }
        timing.compare(f"pointer {part}", STEPS * BATCH, implementations, unit="instances/s")


if __name__ == "__main__":
    main()
