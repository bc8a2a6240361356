"""Five algorithmic tasks of Graves et al. 2014, sec. 4, generated on the device from a key.

All sequences of a batch have the same sizes (length, number of repeats), which are sampled per
batch. Arrays are padded to the longest possible sequence, and the number of steps is traced, so
that one compiled program serves all lengths.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Sizes = Mapping[str, Any]  # integers, concrete or traced


class SequenceBatch(NamedTuple):
    """Input and target sequences, time-major; a single sequence has no batch axis."""

    inputs: Float[Array, "T *B I"]
    targets: Float[Array, "T *B O"]
    loss_mask: Bool[Array, "T *B"]  # true at steps whose output has a target


class SequenceTask:
    """Generator of the sequences of one task.

    Args:
        ranges: smallest and largest value of each size, by name.

    Raises:
        ValueError: if a size is unknown or missing, or a range is empty.
    """

    size_names: tuple[str, ...]
    inputs: int  # input channels
    outputs: int  # output channels

    def __init__(self, **ranges: tuple[int, int]):
        if set(ranges) != set(self.size_names):
            raise ValueError(
                f"the sizes of {type(self).__name__} are {', '.join(self.size_names)}, "
                f"not {', '.join(ranges) or 'none'}"
            )
        for name, bounds in ranges.items():
            match bounds:
                case (int(low), int(high)) if 0 < low <= high:
                    continue
            raise ValueError(f"{name} must be (low, high) with 0 < low <= high, not {bounds}")
        self.ranges = ranges
        self.max_sizes = {name: high for name, (_, high) in ranges.items()}

    @property
    def max_steps(self) -> int:
        """T, number of steps of the longest sequence."""
        return self.steps(self.max_sizes)

    def steps(self, sizes: Sizes) -> Any:
        """Return the number of steps of a sequence."""
        raise NotImplementedError

    def sequence(self, key: PRNGKeyArray, sizes: Sizes) -> SequenceBatch:
        """Generate one sequence, padded to `max_steps`."""
        raise NotImplementedError

    def reference_metrics(self, batch: SequenceBatch) -> dict[str, Float[Array, " B"]]:
        """Compute metrics of reference predictors for each sequence, by name."""
        del batch
        return {}


def sample_sizes(key: PRNGKeyArray, ranges: Mapping[str, tuple[int, int]]) -> Sizes:
    """Sample each size uniformly from its range, bounds included."""
    keys = jax.random.split(key, len(ranges))
    return {
        name: jax.random.randint(k, (), low, high + 1)
        for k, (name, (low, high)) in zip(keys, ranges.items(), strict=True)
    }


def sample_batch(
    task: SequenceTask, key: PRNGKeyArray, indices: Int[Array, " B"]
) -> tuple[SequenceBatch, Int[Array, ""]]:
    """Sample a batch and its number of steps.

    Each sequence depends only on the key and its own index, not on the other indices.
    """
    sizes = sample_sizes(jax.random.fold_in(key, 0), task.ranges)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index + 1))(indices)
    batch = jax.vmap(lambda k: task.sequence(k, sizes), out_axes=1)(keys)
    return batch, task.steps(sizes)


class Copy(SequenceTask):
    """Copy (sec. 4.1): reproduce a sequence of `length` random binary vectors.

    Two input channels hold the start and end delimiters. One output channel holds an end delimiter
    whose target is always 0. These numbers of channels give the parameter counts of the paper.
    """

    size_names, bits = ("length",), 8
    inputs, outputs = bits + 2, bits + 1

    def steps(self, sizes):
        return 2 * sizes["length"] + 2

    def sequence(self, key, sizes):
        length, t = sizes["length"], jnp.arange(self.max_steps)
        vectors = _random_vectors(key, self.max_sizes["length"], self.bits)
        input_mask = _interval_mask(t, 1, length)
        output_mask = _interval_mask(t, length + 2, length)
        inputs = jnp.concatenate(
            [_gather(vectors, t - 1, input_mask), _stack_flags(t == 0, t == length + 1)], axis=-1
        )
        targets = jnp.concatenate(
            [_gather(vectors, t - length - 2, output_mask), jnp.zeros((len(t), 1))], axis=-1
        )
        return SequenceBatch(inputs, targets, output_mask)


class RepeatCopy(SequenceTask):
    """Repeat copy (sec. 4.2): reproduce `length` vectors `repeats` times, then emit an end marker.

    The number of repeats is one input after the vectors, normalized to mean 0 and variance 1 for
    the range 1 to 10 of the paper. Deviation from the text of the paper, which says eight bits: the
    vectors have six, as its parameter counts imply.
    """

    size_names, bits = ("length", "repeats"), 6
    inputs, outputs = bits + 2, bits + 1
    mean, stddev = 5.5, 8.25**0.5  # mean and standard deviation of the number of repeats

    def steps(self, sizes):
        return sizes["length"] * (sizes["repeats"] + 1) + 3

    def sequence(self, key, sizes):
        length, repeats, t = sizes["length"], sizes["repeats"], jnp.arange(self.max_steps)
        vectors = _random_vectors(key, self.max_sizes["length"], self.bits)
        input_mask = _interval_mask(t, 1, length)
        number = jnp.where(t == length + 1, (repeats - self.mean) / self.stddev, 0.0)
        inputs = jnp.concatenate(
            [_gather(vectors, t - 1, input_mask), _stack_flags(t == 0), number[:, None]], axis=-1
        )
        start, total = length + 2, length * repeats
        copies = _gather(vectors, (t - start) % length, _interval_mask(t, start, total))
        targets = jnp.concatenate([copies, _stack_flags(t == start + total)], axis=-1)
        return SequenceBatch(inputs, targets, _interval_mask(t, start, total + 1))


class Recall(SequenceTask):
    """Associative recall (sec. 4.3): given one of `items` items, reproduce the item after it.

    An item is three vectors. One delimiter channel marks the start of each item, another the start
    and end of the query. The query is any item except the last.
    """

    size_names, bits, item = ("items",), 6, 3
    inputs, outputs = bits + 2, bits

    def __init__(self, **ranges: tuple[int, int]):
        super().__init__(**ranges)
        low, _ = self.ranges["items"]
        if low < 2:
            raise ValueError(f"associative recall needs at least 2 items, not {low}")

    def steps(self, sizes):
        return (self.item + 1) * sizes["items"] + 2 * self.item + 2

    def sequence(self, key, sizes):
        items, t = sizes["items"], jnp.arange(self.max_steps)
        key, query_key = jax.random.split(key)
        vectors = _random_vectors(key, self.item * self.max_sizes["items"], self.bits)
        block = self.item + 1
        end = block * items
        query = self.item * jax.random.randint(query_key, (), 0, items - 1)  # first vector of item
        offset = t % block - 1  # within the item; -1 at its delimiter
        item_inputs = _gather(vectors, t // block * self.item + offset, (t < end) & (offset >= 0))
        query_inputs = _gather(vectors, query + t - end - 1, _interval_mask(t, end + 1, self.item))
        target_mask = _interval_mask(t, end + self.item + 2, self.item)
        targets = _gather(vectors, query + t - end - 2, target_mask)
        flags = _stack_flags((t < end) & (offset < 0), (t == end) | (t == end + self.item + 1))
        inputs = jnp.concatenate([item_inputs + query_inputs, flags], axis=-1)
        return SequenceBatch(inputs, targets, target_mask)


class NGrams(SequenceTask):
    """Dynamic n-grams (sec. 4.4): predict each of `length` bits from the bits before it.

    Each bit depends on the five bits before it. The probabilities of the 32 contexts are sampled
    from Beta(1/2, 1/2) for each sequence; the first five bits are uniform. The input is the
    previous bit, 0 at the first step.
    """

    size_names, context = ("length",), 5
    inputs = outputs = 1

    def steps(self, sizes):
        return sizes["length"]

    def sequence(self, key, sizes):
        t = jnp.arange(self.max_steps)
        table_key, bits_key = jax.random.split(key)
        table = jax.random.beta(table_key, 0.5, 0.5, (2**self.context,))

        def step(carry, uniform):
            context, t = carry
            probability = jnp.where(t < self.context, 0.5, table[context])
            bit = (uniform < probability).astype(jnp.int32)
            return ((2 * context + bit) % len(table), t + 1), bit

        start = jnp.int32(0), jnp.int32(0)
        _, bits = jax.lax.scan(step, start, jax.random.uniform(bits_key, t.shape))
        mask = t < sizes["length"]
        bits = jnp.where(mask, bits, 0).astype(jnp.float32)[:, None]
        previous = jnp.roll(bits, 1, axis=0).at[0].set(0.0)
        return SequenceBatch(jnp.where(mask[:, None], previous, 0.0), bits, mask)

    def reference_metrics(self, batch: SequenceBatch) -> dict[str, Float[Array, " B"]]:
        """Compute the bits per sequence of the optimal estimator.

        The estimator predicts a one with probability `(N1 + 1/2) / (N0 + N1 + 1)`, where N0 and N1
        count the zeros and ones that followed the same context (eq. 10).
        """

        def cost(bits):  # [T], in bits
            def step(carry, bit):
                counts, context, t = carry
                zeros, ones = counts[context]
                estimate = (ones + 0.5) / (zeros + ones + 1.0)
                probability = jnp.where(t < self.context, 0.5, estimate)
                has_context = t >= self.context
                counts = counts.at[context, bit].add(has_context.astype(jnp.float32))
                cost = -jnp.log2(jnp.where(bit == 1, probability, 1.0 - probability))
                return (counts, (2 * context + bit) % len(counts), t + 1), cost

            start = jnp.zeros((2**self.context, 2)), jnp.int32(0), jnp.int32(0)
            return jax.lax.scan(step, start, bits)[1]

        bits = batch.targets[..., 0].astype(jnp.int32)
        costs = jax.vmap(cost, in_axes=1, out_axes=1)(bits)
        return {"optimal_bits": jnp.sum(jnp.where(batch.loss_mask, costs, 0.0), axis=0)}


class PrioritySort(SequenceTask):
    """Priority sort (sec. 4.5): return the `top_k` of `items` vectors, in order of priority.

    Priorities are uniform in (-1, 1), in an additional input channel. A delimiter marks the end of
    the inputs.
    """

    size_names, bits = ("items", "top_k"), 8
    inputs, outputs = bits + 2, bits

    def __init__(self, **ranges: tuple[int, int]):
        super().__init__(**ranges)
        top_k, items = self.max_sizes["top_k"], self.ranges["items"][0]
        if top_k > items:
            raise ValueError(f"priority sort cannot return the top {top_k} of {items} items")

    def steps(self, sizes):
        return sizes["items"] + 1 + sizes["top_k"]

    def sequence(self, key, sizes):
        items, top_k, t = sizes["items"], sizes["top_k"], jnp.arange(self.max_steps)
        key, priority_key = jax.random.split(key)
        vectors = _random_vectors(key, self.max_sizes["items"], self.bits)
        priorities = jax.random.uniform(priority_key, (len(vectors), 1), minval=-1.0)
        padding = jnp.arange(len(vectors)) >= items
        ranked = vectors[jnp.argsort(jnp.where(padding, 2.0, -priorities[:, 0]))]
        input_mask, output_mask = t < items, _interval_mask(t, items + 1, top_k)
        inputs = jnp.concatenate(
            [
                _gather(vectors, t, input_mask),
                _gather(priorities, t, input_mask),
                _stack_flags(t == items),
            ],
            axis=-1,
        )
        return SequenceBatch(inputs, _gather(ranked, t - items - 1, output_mask), output_mask)


SEQUENCE_TASKS: dict[str, Any] = {
    "copy": Copy,
    "repeat_copy": RepeatCopy,
    "recall": Recall,
    "ngrams": NGrams,
    "sort": PrioritySort,
}


def _random_vectors(key, count, bits):
    return jax.random.bernoulli(key, 0.5, (count, bits)).astype(jnp.float32)


def _interval_mask(t, start, length):
    return (t >= start) & (t < start + length)


def _gather(vectors, indices, mask):
    """`vectors[indices]` where the mask is true, zeros elsewhere."""
    return jnp.where(mask[:, None], vectors[jnp.clip(indices, 0, len(vectors) - 1)], 0.0)


def _stack_flags(*flags):
    """Stack boolean flags as channels of zeros and ones."""
    return jnp.stack(flags, axis=-1).astype(jnp.float32)
