"""Trains one Transformer here and in PyTorch: `python -m benchmarks.transformer`.

Same sizes, same padded batches of sentences of 16 to 32 tokens, same places of dropout, same loss
(padding ignored), Adam with its fused form in both. What counts is real target tokens a second,
padding not included. PyTorch runs eager and compiled; the better of the two is the peer.
"""

import importlib.util
import math
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import race

ROWS, LENGTH, VOCABULARY, WIDTH, HIDDEN, HEADS, LAYERS = 64, 32, 8000, 256, 1024, 4, 3
DROPOUT, SMOOTHING, RATE = 0.1, 0.1, 1e-4
STEPS, ROUNDS = 4, 7  # a round is one step on each of so many batches


def batches() -> list[dict[str, np.ndarray]]:
    """What both train on; token 0 is padding."""
    rng = np.random.default_rng(0)

    def side():
        tokens = rng.integers(4, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
        lengths = rng.integers(LENGTH // 2, LENGTH + 1, (ROWS, 1))
        return np.where(np.arange(LENGTH) < lengths, tokens, 0)

    return [{"source": side(), "target": side()} for _ in range(STEPS)]


def ours() -> Callable[[], None]:
    """The translation task's own step, jitted as the loop does it."""
    from training import allocator

    allocator.keep_pages()
    import jax
    from flax import nnx
    from ml_collections import ConfigDict

    from models.transformer import Transformer
    from tasks.base import Supervised
    from tasks.translation import Translation
    from training import optimizer

    class Task(Translation):
        """Translation without a corpus."""

        def __init__(self):
            adam = optimizer.build(
                schedule="constant", peak=RATE, warmup=0, b1=0.9, b2=0.98, eps=1e-9, clip=0.0
            )
            Supervised.__init__(self, adam, accumulate=1)
            self.config = ConfigDict({"label_smoothing": SMOOTHING})
            self.create = partial(
                Transformer,
                vocabulary=VOCABULARY,
                width=WIDTH,
                hidden=HIDDEN,
                heads=HEADS,
                key_width=WIDTH // HEADS,
                value_width=WIDTH // HEADS,
                encoder_layers=LAYERS,
                decoder_layers=LAYERS,
                dropout=DROPOUT,
                norm="post",
                dtype="float32",
                implementation="xla",
            )
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(key=jax.random.key(0))))

    task, key = Task(), jax.random.key(1)
    state = jax.jit(task.init)(key)
    step = jax.jit(
        lambda state, batch: task.train_step(state, batch, jax.random.fold_in(key, state.step)),
        donate_argnums=0,
    )
    placed = jax.device_put(batches())

    def run():
        nonlocal state
        for batch in placed:
            state, metrics = step(state, batch)
        metrics["loss"].block_until_ready()

    return run


def torch(compiled: bool) -> Callable[[], None]:
    """`torch.nn.Transformer` in the hands of somebody who knows it."""
    from training import allocator

    allocator.keep_pages()  # what it gains us, it gains them
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(len(os.sched_getaffinity(0)))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(VOCABULARY, WIDTH)
            nn.init.normal_(self.table.weight, std=WIDTH**-0.5)
            self.transformer = nn.Transformer(
                WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, DROPOUT, batch_first=True
            )
            # As printed: no norm after the last layer, and dropout on sub-layer outputs alone.
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
            for module in self.transformer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
                if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                    module.dropout.p = 0.0
            self.dropout = nn.Dropout(DROPOUT)
            angle = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
            table = torch.stack([angle.sin(), angle.cos()], -1).reshape(LENGTH, WIDTH)
            self.register_buffer("positions", table)
            future = nn.Transformer.generate_square_subsequent_mask(LENGTH)
            self.register_buffer("future", future)

        def embed(self, tokens):
            return self.dropout(self.table(tokens) * math.sqrt(WIDTH) + self.positions)

        def forward(self, source, target):
            padding = source == 0
            states = self.transformer(
                self.embed(source),
                self.embed(functional.pad(target[:, :-1], (1, 0), value=1)),
                tgt_mask=self.future,
                tgt_is_causal=True,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
            return functional.cross_entropy(
                (states @ self.table.weight.T).flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

    torch.manual_seed(0)
    model = Model()
    adam = torch.optim.Adam(model.parameters(), RATE, (0.9, 0.98), 1e-9, fused=True)
    loss_of = torch.compile(model) if compiled else model
    placed = [
        [torch.tensor(batch[side], dtype=torch.long) for side in ("source", "target")]
        for batch in batches()
    ]

    def run():
        for source, target in placed:
            adam.zero_grad(set_to_none=True)
            loss = loss_of(source, target)
            loss.backward()
            adam.step()
        loss.item()

    return run


def main() -> None:
    """Prints a table and the line of JSON."""
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: PyTorch is not installed: pip install -r requirements-peers.txt")
    forms: dict[str, race.Contestant] = {
        "ours": ours,
        "torch eager": partial(torch, False),
        "torch compiled": partial(torch, True),
    }
    seconds = race.race(forms, ROUNDS)
    tokens = sum(int((batch["target"] > 0).sum()) for batch in batches())
    speed = {name: tokens / statistics.median(times) for name, times in seconds.items()}
    ratios = {name: race.ratio(times, seconds["ours"]) for name, times in seconds.items()}
    for name in forms:
        print(f"{name:>15}  {speed[name]:>8,.0f} tokens/s   ours / it {ratios[name]:.2f}")
    del ratios["ours"]
    peer = min(ratios, key=lambda name: ratios[name])
    race.report(
        "transformer",
        speed["ours"],
        speed[peer],
        "tokens/s",
        ratios[peer],
        form=peer,
        rounds=ROUNDS,
    )


if __name__ == "__main__":
    main()
