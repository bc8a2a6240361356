"""Training speed of a Neural Turing Machine, compared with PyTorch.

The workload is the copy task of configs/ntm_copy.py: batches of 16 sequences of 1 to 20 vectors,
with one length per batch; an LSTM controller of width 100, one read and one write head, and a
memory of 128 x 20. Both implementations generate their sequences and train with Adam and a clipped
gradient norm. The PyTorch model implements the same equations on batches, with `nn.LSTMCell`, and
runs as many steps as the batch needs. It is measured in eager mode only, because `torch.compile`
would unroll the loop into one program per length. `ntm/length` is the time of one of our updates by
the length of its sequences.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.workloads import Benchmark, Measurement, Program, Workload, torch_device

BATCH, BITS, HIDDEN, MEMORY_ROWS, MEMORY_WIDTH, SHIFTS = 16, 8, 100, 128, 20, 3
CPU_DEVICES = 2  # as in configs/ntm_copy.py
LENGTHS = np.random.default_rng(0).integers(1, 21, 24)  # of the batches of one round
LEARNING_RATE, CLIP = 1e-3, 10.0


class Update(NamedTuple):
    """Training on one batch of sequences of a given length.

    Attributes:
        run: executes the update.
        trace: returns its program.
    """

    run: Callable[[int], None]
    trace: Callable[[int], Program]


def make_update(longest: int) -> Update:
    """Create our update.

    Args:
        longest: largest length, which determines the shapes.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from models.ntm import NTM
    from tasks.memory.sequences import Copy
    from tasks.memory.task import cross_entropy
    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    devices = mesh.make_mesh(data=-1, fsdp=1, tensor=1)
    indices = mesh.shard_batch(np.arange(BATCH), devices)
    task = Copy(length=(1, longest))
    create = functools.partial(
        NTM,
        inputs=task.inputs,
        outputs=task.outputs,
        controller="lstm",
        hidden=HIDDEN,
        layers=1,
        heads=1,
        memory_rows=MEMORY_ROWS,
        memory_width=MEMORY_WIDTH,
        max_shift=SHIFTS // 2,
        memory_init="constant",
        gate_bias=0.0,
        shift_bias=0.0,
        erase_bias=0.0,
        backward_clip=0.0,
    )
    graphdef, params = nnx.split(create(key=jax.random.key(0)))
    adam = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(LEARNING_RATE))
    state = mesh.replicate((params, adam.init(params), jax.random.key(1)), devices)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, indices, length):
        params, opt_state, key = state
        key, data_key = jax.random.split(key)
        keys = jax.vmap(lambda index: jax.random.fold_in(data_key, index))(indices)
        generate = jax.vmap(lambda key: task.sequence(key, {"length": length}), out_axes=1)
        sequences = generate(keys)

        def loss(params):
            steps = task.steps({"length": length})
            logits = nnx.merge(graphdef, params)(sequences.inputs, steps, key)
            return jnp.sum(cross_entropy(logits, sequences)) / BATCH

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = adam.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, key), value

    def run(length):
        nonlocal state
        state, value = update(state, indices, np.int32(length))
        value.block_until_ready()

    traced = functools.cache(lambda: update.trace(state, indices, np.int32(longest)).jaxpr)
    return Update(run, lambda length: Program(traced(), task.steps({"length": length})))


def ours() -> Workload:
    """Create our training."""
    update = make_update(longest=20)

    def run():
        for length in LENGTHS:
            update.run(length)

    return Workload(run, lambda: [update.trace(int(length)) for length in LENGTHS])


def torch_model() -> Any:
    """Return the same network in PyTorch; its inputs are time-major."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    head_sizes = (MEMORY_WIDTH, 1, 1, SHIFTS, 1)  # key, strength, gate, shift, sharpness
    sizes = (2 * sum(head_sizes), MEMORY_WIDTH, MEMORY_WIDTH)  # both heads, erase, add

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(BITS + 2 + MEMORY_WIDTH, HIDDEN)
            self.interface = nn.Linear(HIDDEN, sum(sizes))
            self.output = nn.Linear(HIDDEN + MEMORY_WIDTH, BITS + 1)
            self.initial_state = nn.Parameter(torch.zeros(2, 1, HIDDEN))
            self.initial_read = nn.Parameter(0.1 * torch.randn(1, MEMORY_WIDTH))
            self.initial_weights = nn.Parameter(10.0 * torch.eye(MEMORY_ROWS)[:1].repeat(2, 1))

        def forward(self, inputs):
            batch = inputs.shape[1]
            state = tuple(self.initial_state.expand(2, batch, HIDDEN))
            read = self.initial_read.expand(batch, MEMORY_WIDTH)
            weights = self.initial_weights.softmax(-1).expand(batch, 2, MEMORY_ROWS)
            memory = inputs.new_full((batch, MEMORY_ROWS, MEMORY_WIDTH), 1e-6)
            outputs = []
            for x in inputs:
                state = self.cell(torch.cat([x, read], -1), state)
                heads, erase, add = self.interface(state[0]).split(sizes, -1)
                heads = heads.view(batch, 2, -1).split(head_sizes, -1)
                weights = self.address(memory, weights, heads)
                read = torch.bmm(weights[:, :1], memory)[:, 0]
                write_weights = weights[:, 1, :, None]
                memory = memory * (1 - write_weights * erase.sigmoid()[:, None])
                memory = memory + write_weights * add.tanh()[:, None]
                outputs.append(torch.cat([state[0], read], -1))
            return self.output(torch.stack(outputs))

        def address(self, memory, weights, heads):
            key, strength, gate, shift, sharpness = heads
            rows = functional.normalize(memory, dim=-1)
            cosine = functional.normalize(key.tanh(), dim=-1) @ rows.mT
            content = (functional.softplus(strength) * cosine).softmax(-1)
            weights = torch.lerp(weights, content, gate.sigmoid())
            rolled = torch.stack([weights.roll(by, -1) for by in (-1, 0, 1)], -1)
            shifted = (rolled * shift.softmax(-1)[:, :, None]).sum(-1)
            power = 1 + functional.softplus(sharpness)
            return (power * shifted.clamp_min(1e-37).log()).softmax(-1)

    return Model()


def torch() -> Workload:
    """Create the training in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    device = torch_device()
    model = torch_model().to(device)
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)

    def update(length):
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
            loss = update(int(length))
        loss.item()

    return Workload(run)


def time_by_length(lengths: tuple[int, ...], rounds: int = 15) -> list[dict[str, Any]]:
    """Measure the minimum time of our update for each length."""
    update = make_update(longest=max(lengths))
    update.run(1)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(rounds):
        for length, values in times.items():
            start = time.perf_counter()
            update.run(length)
            values.append(1e3 * (time.perf_counter() - start))
    return [
        {"length": n, "ms per update": min(x), "ms per step": min(x) / (2 * n + 2)}
        for n, x in times.items()
    ]


def declare(quick: bool) -> list[Benchmark | Measurement]:
    """Return the benchmark of training and the measurement by length."""
    lengths = (10, 20) if quick else (10, 20, 40, 80, 120)
    return [
        Benchmark("ntm", BATCH * len(LENGTHS), "sequences", {"ours": ours, "torch eager": torch}),
        Measurement("ntm/length", functools.partial(time_by_length, lengths)),
    ]
