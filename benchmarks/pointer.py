"""Training and greedy decoding of a pointer network, compared with PyTorch.

The model follows Vinyals et al. 2015: LSTM encoder and decoder of 256 units, additive score of
width 256. Both implementations train with Adam (fused) on batches of 128 precomputed instances of
ten cities. PyTorch runs `nn.LSTM` over whole sequences in training, with one batched attention for
all steps, eager and compiled; it decodes with `nn.LSTMCell`, eager and with a compiled step. The
peer is the fastest PyTorch variant. The unit is instances per second.
"""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.workloads import (
    ADAM,
    Batches,
    Benchmark,
    Program,
    Workload,
    beside_torch,
    make_torch_training,
    make_training,
    torch_device,
)
from configs import ptrnet_tsp

BATCH, CITIES, HIDDEN = 128, 10, 256
STEPS = 8  # batches per round
CPU_DEVICES = ptrnet_tsp.get_config().cpu_devices


def batches() -> Batches:
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
    config.optimizer = {"method": "adam", **ADAM}
    return PrecomputedTSP(config, "")


def train_ours() -> Workload:
    """Create our training."""
    return make_training(our_task(), batches(), CPU_DEVICES)


def decode_ours() -> Workload:
    """Create our greedy decoding."""
    import jax

    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    task = our_task()
    params = jax.jit(task.init)(jax.random.key(1)).params
    params = mesh.replicate(params, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    with mesh.evaluation_mesh(params) as shard:
        sharded = [shard(batch["points"]) for batch in batches()]

    decode = partial(task.decode, params, constrained=True)

    def run():
        for points in sharded:
            decode(points, 0).block_until_ready()

    def trace():
        return [Program(jax.make_jaxpr(decode)(sharded[0], 0))] * len(sharded)

    return Workload(run, trace)


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
            mask[:, 0, 1:] = False  # tours start at the first city
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


def train_torch(compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    return make_torch_training(torch_model(), batches(), compiled)


def decode_torch(compiled: bool) -> Workload:
    """Create greedy decoding in PyTorch."""
    import torch

    device = torch_device()
    model = torch_model().eval().to(device)
    step = torch.compile(model.step) if compiled else model.step
    tensors = [torch.tensor(batch["points"], device=device) for batch in batches()]

    def run():
        with torch.inference_mode():
            for points in tensors:
                model.decode(points, step).cpu()

    return Workload(run)


def declare(quick: bool) -> list[Benchmark]:
    """Return the benchmarks of training and greedy decoding."""
    del quick
    parts = {
        "training": beside_torch(train_ours, train_torch),
        "greedy": beside_torch(decode_ours, decode_torch),
    }
    instances = STEPS * BATCH
    return [Benchmark(f"pointer/{name}", instances, "instances", x) for name, x in parts.items()]
