"""Sentences and the task that the benchmarks of token models share.

Frameworks are imported in functions, because each implementation runs in its own process.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads import ADAM, Batches

SMOOTHING = 0.1
STEPS = 4  # batches of a round


def batches(size: int, length: int, vocabulary: int) -> Batches:
    """Sample padded batches of sentences of `length // 2` to `length` tokens; token 0 is padding.

    A target has the length of its source within two tokens.
    """
    rng = np.random.default_rng(0)

    def pad(lengths):
        tokens = rng.integers(4, vocabulary, (size, length)).astype(np.int32)
        return np.where(np.arange(length) < lengths[:, None], tokens, 0)

    def batch():
        source = rng.integers(length // 2, length + 1, size)
        target = np.clip(source + rng.integers(-2, 3, size), length // 2, length)
        return {"source": pad(source), "target": pad(target)}

    return [batch() for _ in range(STEPS)]


def packed(padded: Batches, row: int) -> Batches:
    """Pack the same sentences into rows, in equally many batches; the last one repeats rows."""
    from tasks.translation.data.packing import PackedBatches
    from tasks.translation.data.tokenized import Sentences, TokenizedPairs

    def sentences(side):
        tokens = [x[x > 0] for batch in padded for x in batch[side]]
        lengths = np.array([len(x) for x in tokens])
        # The last token is read as EOS.
        return Sentences(np.concatenate(tokens), np.cumsum(lengths) - lengths, lengths)

    pairs = TokenizedPairs(sentences("source"), sentences("target"))
    rows = PackedBatches(pairs, (row, row), 1, seed=0).rows
    packed_batches = PackedBatches(pairs, (row, row), -(-rows // len(padded)), seed=0)
    return [packed_batches[i] for i in range(len(padded))]


def real_tokens(batches: Batches) -> int:
    """Count the target tokens of a round without padding."""
    return sum(int((batch["target"] > 0).sum()) for batch in batches)


def our_task(create: Callable[..., Any]) -> Any:
    """Build a translation task without a corpus, for the model that `create(key=...)` returns."""
    import jax
    from flax import nnx
    from ml_collections import ConfigDict

    from tasks.base import Supervised
    from tasks.translation.task import Translation
    from training import optimizer

    class Task(Translation):
        def __init__(self):
            Supervised.__init__(self, optimizer.adam(**ADAM), accumulate=1)
            self.config = ConfigDict({"label_smoothing": SMOOTHING})
            self.create = create
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: create(key=jax.random.key(0))))

    return Task()
