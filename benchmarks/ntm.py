"""Trains one Neural Turing Machine here and in PyTorch: `python -m benchmarks.ntm`.

The copy task of configs/ntm_copy.py: batches of 16 sequences of 1 to 20 vectors, all of a batch of
one length; an LSTM controller of 100, one head that reads and one that writes, 128 x 20. Both make
their sequences themselves and train by Adam with gradients of a bounded norm. PyTorch runs the same
equations on whole batches, `nn.LSTMCell` and all, for as many steps as a batch's length takes;
eager alone, as a loop is a program of its own for each length to its compiler. What counts is
sequences a second. Before it, what an update costs here by the length of its sequences, up to 120.
"""

import functools
import time
from collections.abc import Callable

import numpy as np

from benchmarks import race

BATCH, BITS, HIDDEN, ROWS, WIDTH, SHIFTS = 16, 8, 100, 128, 20, 3
CPU_DEVICES = 2  # as in configs/ntm_copy.py
LENGTHS = np.random.default_rng(0).integers(1, 21, 24)  # of the batches of a round
RATE, CLIP, ROUNDS = 1e-3, 10.0, 7


def our_step(longest: int) -> Callable[[int], None]:
    """One update on a batch of a given length; each core has rows of its own."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from models.ntm import NTM
    from tasks.memory.sequences import Copy
    from tasks.memory.task import answer_cost
    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    devices = mesh.make_mesh(data=-1, fsdp=1, tensor=1)
    rows = mesh.shard_batch(np.arange(BATCH), devices)
    family = Copy(length=(1, longest))
    create = functools.partial(
        NTM,
        inputs=family.inputs,
        outputs=family.outputs,
        controller="lstm",
        hidden=HIDDEN,
        layers=1,
        heads=1,
        rows=ROWS,
        width=WIDTH,
        radius=SHIFTS // 2,
        memory="constant",
    )
    graphdef, params = nnx.split(create(key=jax.random.key(0)))
    adam = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))
    state = mesh.replicate((params, adam.init(params), jax.random.key(1)), devices)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, rows, length):
        params, moments, key = state
        key, key_data = jax.random.split(key)
        keys = jax.vmap(lambda row: jax.random.fold_in(key_data, row))(rows)
        make = jax.vmap(lambda key: family.sequence(key, {"length": length}), out_axes=1)
        episode = make(keys)

        def loss(params):
            steps = family.steps({"length": length})
            logits = nnx.merge(graphdef, params)(episode.inputs, steps, key)
            return jnp.sum(answer_cost(logits, episode)) / BATCH

        cost, grads = jax.value_and_grad(loss)(params)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments, key), cost

    def run(length):
        nonlocal state
        state, cost = step(state, rows, np.int32(length))
        cost.block_until_ready()

    return run


def ours() -> Callable[[], None]:
    """A round of our training."""
    step = our_step(longest=20)

    def run():
        for length in LENGTHS:
            step(length)

    return run


def torch() -> Callable[[], None]:
    """A round of an NTM in the hands of somebody who knows PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    sizes = (WIDTH, 1, 1, SHIFTS, 1)  # key, strength, gate, shift, sharpness
    parts = (2 * sum(sizes), WIDTH, WIDTH)  # to both heads, erase, add

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(BITS + 2 + WIDTH, HIDDEN)
            self.interface = nn.Linear(HIDDEN, sum(parts))
            self.output = nn.Linear(HIDDEN + WIDTH, BITS + 1)
            self.start = nn.Parameter(torch.zeros(2, 1, HIDDEN))
            self.first_read = nn.Parameter(0.1 * torch.randn(1, WIDTH))
            self.first_weights = nn.Parameter(10.0 * torch.eye(ROWS)[:1].repeat(2, 1))

        def forward(self, inputs):
            batch = inputs.shape[1]
            state = tuple(self.start.expand(2, batch, HIDDEN))
            read = self.first_read.expand(batch, WIDTH)
            weights = self.first_weights.softmax(-1).expand(batch, 2, ROWS)
            memory = inputs.new_full((batch, ROWS, WIDTH), 1e-6)
            outputs = []
            for x in inputs:
                state = self.cell(torch.cat([x, read], -1), state)
                said, erase, add = self.interface(state[0]).split(parts, -1)
                heads = said.view(batch, 2, -1).split(sizes, -1)
                weights = self.address(memory, weights, heads)
                read = torch.bmm(weights[:, :1], memory)[:, 0]
                written = weights[:, 1, :, None]
                memory = memory * (1 - written * erase.sigmoid()[:, None])
                memory = memory + written * add.tanh()[:, None]
                outputs.append(torch.cat([state[0], read], -1))
            return self.output(torch.stack(outputs))

        def address(self, memory, weights, heads):
            key, strength, gate, shift, sharpness = heads
            rows = functional.normalize(memory, dim=-1)
            cosine = functional.normalize(key.tanh(), dim=-1) @ rows.mT
            found = (functional.softplus(strength) * cosine).softmax(-1)
            weights = torch.lerp(weights, found, gate.sigmoid())
            around = torch.stack([weights.roll(by, -1) for by in (-1, 0, 1)], -1)
            moved = (around * shift.softmax(-1)[:, :, None]).sum(-1)
            power = 1 + functional.softplus(sharpness)
            return (power * moved.clamp_min(1e-37).log()).softmax(-1)

    device = race.torch_device()
    model = Model().to(device)
    adam = torch.optim.Adam(model.parameters(), RATE, fused=True)

    def step(length):
        vectors = torch.randint(0, 2, (length, BATCH, BITS), device=device).float()
        inputs = torch.zeros(2 * length + 2, BATCH, BITS + 2, device=device)
        inputs[1 : length + 1, :, :BITS] = vectors
        inputs[0, :, BITS] = inputs[length + 1, :, BITS + 1] = 1.0
        targets = functional.pad(vectors, (0, 1))
        adam.zero_grad(set_to_none=True)
        logits = model(inputs)[length + 2 :]
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        (loss / BATCH).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        return loss

    def run():
        for length in LENGTHS:
            loss = step(int(length))
        loss.item()

    return run


def cost_by_length(lengths: tuple[int, ...], rounds: int = 15) -> dict[int, float]:
    """Milliseconds of an update, the least of so many, by the length of the sequences."""
    step = our_step(longest=max(lengths))
    step(1)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(rounds):
        for length in lengths:
            start = time.perf_counter()
            step(length)
            times[length].append(1e3 * (time.perf_counter() - start))
    return {length: min(found) for length, found in times.items()}


def main() -> None:
    """Prints the cost by length, a table, and the line of JSON."""
    costs = cost_by_length((10, 20, 40, 80, 120))
    for length, cost in costs.items():
        print(f"length {length:>4}  {cost:7.1f} ms an update, {cost / (2 * length + 2):.3f} a step")
    forms: dict[str, race.Contestant] = {"ours": ours, "torch eager": torch}
    count = BATCH * len(LENGTHS)
    race.compare(
        "ntm", count, forms, unit="sequences/s", rounds=ROUNDS, milliseconds_by_length=costs
    )


if __name__ == "__main__":
    main()
