"""What the benchmarks of translation share: the sentences, and how each side trains on them.

Imports of a framework stand in the functions: each contestant has a process of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

SMOOTHING, RATE, B1, B2, EPS = 0.1, 1e-4, 0.9, 0.98, 1e-9
STEPS = 4  # a round is one step on each of so many batches

Batches = list[dict[str, np.ndarray]]


def batches(rows: int, length: int, vocabulary: int) -> Batches:
    """What both train on: sentences of half to all of the length; token 0 is padding."""
    rng = np.random.default_rng(0)

    def side():
        tokens = rng.integers(4, vocabulary, (rows, length)).astype(np.int32)
        lengths = rng.integers(length // 2, length + 1, (rows, 1))
        return np.where(np.arange(length) < lengths, tokens, 0)

    return [{"source": side(), "target": side()} for _ in range(STEPS)]


def real_tokens(batches: Batches) -> int:
    """Target tokens of a round, padding not included."""
    return sum(int((batch["target"] > 0).sum()) for batch in batches)


def our_task(create: Callable[..., Any]) -> Any:
    """The translation task around the model that `create(key=...)` makes, without a corpus."""
    import jax
    from flax import nnx
    from ml_collections import ConfigDict

    from tasks.base import Supervised
    from tasks.translation.task import Translation
    from training import optimizer

    class Task(Translation):
        def __init__(self):
            adam = optimizer.adam(
                schedule="constant", learning_rate=RATE, warmup_steps=0, b1=B1, b2=B2, eps=EPS, clip=0.0
            )
            Supervised.__init__(self, adam, accumulate=1)
            self.config = ConfigDict({"label_smoothing": SMOOTHING})
            self.create = create
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: create(key=jax.random.key(0))))

    return Task()


def train_torch(model: Any, batches: Batches, compiled: bool) -> Callable[[], None]:
    """Training of a `torch.nn.Module` that gives the loss of a source and a target."""
    import torch

    from benchmarks import timing

    device = timing.torch_device()
    model = model.to(device)
    adam = torch.optim.Adam(model.parameters(), RATE, (B1, B2), EPS, fused=True)
    loss_of = torch.compile(model) if compiled else model
    place = partial(torch.tensor, dtype=torch.long, device=device)
    placed = [[place(batch[side]) for side in ("source", "target")] for batch in batches]

    def run():
        for source, target in placed:
            adam.zero_grad(set_to_none=True)
            loss = loss_of(source, target)
            loss.backward()
            adam.step()
        loss.item()

    return run
