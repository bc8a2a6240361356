"""The five tasks of Graves et al. 2014, sec. 4: sequences made on the device, from a key.

A family draws the sizes of a batch (its length, how often it repeats), which all its sequences
share, and one sequence from each key. Arrays are as long as the longest sequence; how many steps a
batch takes is a number, so that one program serves all lengths.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from training.errors import UserError

Sizes = Mapping[str, Any]  # integers, traced or not


class Episode(NamedTuple):
    """One sequence, or with a further axis after the first a batch of them."""

    inputs: Float[Array, "T *B I"]
    targets: Float[Array, "T *B O"]
    scored: Bool[Array, "T *B"]  # where an answer is asked for


class Family:
    """A task's sequences.

    Args:
        ranges: the least and the most of each of its sizes, by name.

    Raises:
        UserError: for a size that it does not have, or a range that is none.
    """

    names: tuple[str, ...]  # of the sizes
    inputs: int  # channels
    outputs: int

    def __init__(self, **ranges: tuple[int, int]):
        if set(ranges) != set(self.names):
            raise UserError(
                f"The sizes of {type(self).__name__} are {', '.join(self.names)}, "
                f"not {', '.join(ranges) or 'none'}."
            )
        for name, (low, high) in ranges.items():
            if not 0 < low <= high:
                raise UserError(f"{name} cannot be from {low} to {high}.")
        self.ranges = ranges
        self.most = {name: high for name, (_, high) in ranges.items()}

    @property
    def longest(self) -> int:
        """T, steps of the longest sequence."""
        return self.steps(self.most)

    def steps(self, sizes: Sizes) -> Any:
        """Steps of a sequence of these sizes."""
        raise NotImplementedError

    def sequence(self, key: PRNGKeyArray, sizes: Sizes) -> Episode:
        """One sequence."""
        raise NotImplementedError

    def references(self, episode: Episode) -> dict[str, Float[Array, " B"]]:
        """Bits that known predictors need for each sequence of a batch, if there are any."""
        del episode
        return {}


def draw_sizes(key: PRNGKeyArray, ranges: Mapping[str, tuple[int, int]]) -> Sizes:
    """Each size uniform in its range, both ends included."""
    keys = jax.random.split(key, len(ranges))
    return {
        name: jax.random.randint(k, (), low, high + 1)
        for k, (name, (low, high)) in zip(keys, ranges.items(), strict=True)
    }


def draw(
    family: Family, key: PRNGKeyArray, rows: Int[Array, " B"]
) -> tuple[Episode, Int[Array, ""]]:
    """A batch and its number of steps. A row depends on the key and its own number alone."""
    sizes = draw_sizes(jax.random.fold_in(key, 0), family.ranges)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row + 1))(rows)
    episode = jax.vmap(lambda k: family.sequence(k, sizes), out_axes=1)(keys)
    return episode, family.steps(sizes)


class Copy(Family):
    """Say again what was said (sec. 4.1): `length` random vectors.

    Inputs have a flag each for the start and the end of what is to be copied; outputs an end flag,
    never set. The numbers of channels are those that give the paper's count of parameters.
    """

    names, bits = ("length",), 8
    inputs, outputs = bits + 2, bits + 1

    def steps(self, sizes):
        return 2 * sizes["length"] + 2

    def sequence(self, key, sizes):
        length, t = sizes["length"], jnp.arange(self.longest)
        vectors = _vectors(key, self.most["length"], self.bits)
        told, asked = _within(t, 1, length), _within(t, length + 2, length)
        inputs = jnp.concatenate(
            [_place(vectors, t - 1, told), _flags(t == 0, t == length + 1)], axis=-1
        )
        targets = jnp.concatenate(
            [_place(vectors, t - length - 2, asked), jnp.zeros((len(t), 1))], axis=-1
        )
        return Episode(inputs, targets, asked)


class RepeatCopy(Family):
    """Say it so many times (sec. 4.2): `length` vectors, `repeats` times, then an end flag.

    How many is told by one number after the vectors, which has mean 0 and variance 1 if it is from
    1 to 10, as in the paper's training. The vectors have six bits, as the paper's counts of
    parameters imply, where its text says eight.
    """

    names, bits = ("length", "repeats"), 6
    inputs, outputs = bits + 2, bits + 1
    mean, deviation = 5.5, 8.25**0.5

    def steps(self, sizes):
        return sizes["length"] * (sizes["repeats"] + 1) + 3

    def sequence(self, key, sizes):
        length, repeats, t = sizes["length"], sizes["repeats"], jnp.arange(self.longest)
        vectors = _vectors(key, self.most["length"], self.bits)
        told = _within(t, 1, length)
        number = jnp.where(t == length + 1, (repeats - self.mean) / self.deviation, 0.0)
        inputs = jnp.concatenate(
            [_place(vectors, t - 1, told), _flags(t == 0), number[:, None]], axis=-1
        )
        first, total = length + 2, length * repeats
        copied = _place(vectors, (t - first) % length, _within(t, first, total))
        targets = jnp.concatenate([copied, _flags(t == first + total)], axis=-1)
        return Episode(inputs, targets, _within(t, first, total + 1))


class Recall(Family):
    """Which item came after this one (sec. 4.3): `items` of three vectors each, and one to look up.

    A flag stands before each item, another before and after the one that is asked about, which is
    any but the last.
    """

    names, bits, item = ("items",), 6, 3
    inputs, outputs = bits + 2, bits

    def __init__(self, **ranges: tuple[int, int]):
        super().__init__(**ranges)
        if self.ranges["items"][0] < 2:
            raise UserError("To ask for an item's next takes at least 2 items.")

    def steps(self, sizes):
        return (self.item + 1) * sizes["items"] + 2 * self.item + 2

    def sequence(self, key, sizes):
        items, t = sizes["items"], jnp.arange(self.longest)
        key, key_asked = jax.random.split(key)
        vectors = _vectors(key, self.item * self.most["items"], self.bits)
        block = self.item + 1
        end = block * items
        asked = self.item * jax.random.randint(key_asked, (), 0, items - 1)
        within = t % block - 1  # of the item: -1 at its flag
        told = _place(vectors, t // block * self.item + within, (t < end) & (within >= 0))
        query = _place(vectors, asked + t - end - 1, _within(t, end + 1, self.item))
        answered = _within(t, end + self.item + 2, self.item)
        answer = _place(vectors, asked + t - end - 2, answered)
        flags = _flags((t < end) & (within < 0), (t == end) | (t == end + self.item + 1))
        return Episode(jnp.concatenate([told + query, flags], axis=-1), answer, answered)


class NGrams(Family):
    """Guess the next bit (sec. 4.4): each depends on the five before it, by a table of its own.

    `length` bits; the chances of the 32 contexts are drawn from Beta(1/2, 1/2) for each sequence,
    the first five bits are tosses of a coin. The input is the bit before, 0 at first.
    """

    names, context = ("length",), 5
    inputs = outputs = 1

    def steps(self, sizes):
        return sizes["length"]

    def sequence(self, key, sizes):
        t = jnp.arange(self.longest)
        key_table, key_bits = jax.random.split(key)
        table = jax.random.beta(key_table, 0.5, 0.5, (2**self.context,))

        def step(seen, uniform):
            context, t = seen
            chance = jnp.where(t < self.context, 0.5, table[context])
            bit = (uniform < chance).astype(jnp.int32)
            return ((2 * context + bit) % len(table), t + 1), bit

        start = jnp.int32(0), jnp.int32(0)
        _, bits = jax.lax.scan(step, start, jax.random.uniform(key_bits, t.shape))
        asked = t < sizes["length"]
        bits = jnp.where(asked, bits, 0).astype(jnp.float32)[:, None]
        before = jnp.roll(bits, 1, axis=0).at[0].set(0.0)
        return Episode(jnp.where(asked[:, None], before, 0.0), bits, asked)

    def references(self, episode: Episode) -> dict[str, Float[Array, " B"]]:
        """The optimal estimator: `(N1 + 1/2) / (N0 + N1 + 1)` of each context (eq. 10)."""

        def bits_of(bits):  # [T] to the bits that it costs
            def step(seen, bit):
                counts, context, t = seen
                zeros, ones = counts[context]
                chance = jnp.where(t < self.context, 0.5, (ones + 0.5) / (zeros + ones + 1.0))
                known = t >= self.context
                counts = counts.at[context, bit].add(known.astype(jnp.float32))
                cost = -jnp.log2(jnp.where(bit == 1, chance, 1.0 - chance))
                return (counts, (2 * context + bit) % len(counts), t + 1), cost

            start = jnp.zeros((2**self.context, 2)), jnp.int32(0), jnp.int32(0)
            return jax.lax.scan(step, start, bits)[1]

        costs = jax.vmap(bits_of, in_axes=1, out_axes=1)(episode.targets[..., 0].astype(jnp.int32))
        return {"optimal_bits": jnp.sum(jnp.where(episode.scored, costs, 0.0), axis=0)}


class PrioritySort(Family):
    """Say the `kept` highest of `items` vectors in the order of their priorities (sec. 4.5).

    Priorities are uniform in (-1, 1) and come beside the vectors. A flag asks for the answer.
    """

    names, bits = ("items", "kept"), 8
    inputs, outputs = bits + 2, bits

    def __init__(self, **ranges: tuple[int, int]):
        super().__init__(**ranges)
        if self.most["kept"] > self.ranges["items"][0]:
            raise UserError(f"There is no way to keep {self.most['kept']} of {ranges['items'][0]}.")

    def steps(self, sizes):
        return sizes["items"] + 1 + sizes["kept"]

    def sequence(self, key, sizes):
        items, kept, t = sizes["items"], sizes["kept"], jnp.arange(self.longest)
        key, key_priority = jax.random.split(key)
        vectors = _vectors(key, self.most["items"], self.bits)
        priorities = jax.random.uniform(key_priority, (len(vectors), 1), minval=-1.0)
        absent = jnp.arange(len(vectors)) >= items
        ranked = vectors[jnp.argsort(jnp.where(absent, 2.0, -priorities[:, 0]))]
        told, asked = t < items, _within(t, items + 1, kept)
        inputs = jnp.concatenate(
            [_place(vectors, t, told), _place(priorities, t, told), _flags(t == items)], axis=-1
        )
        return Episode(inputs, _place(ranked, t - items - 1, asked), asked)


FAMILIES: dict[str, Any] = {
    "copy": Copy,
    "repeat_copy": RepeatCopy,
    "recall": Recall,
    "ngrams": NGrams,
    "sort": PrioritySort,
}


def _vectors(key, count, bits):
    return jax.random.bernoulli(key, 0.5, (count, bits)).astype(jnp.float32)


def _within(t, first, count):
    return (t >= first) & (t < first + count)


def _place(vectors, index, where):
    """`vectors[index]` where it holds, else zeros."""
    return jnp.where(where[:, None], vectors[jnp.clip(index, 0, len(vectors) - 1)], 0.0)


def _flags(*when):
    return jnp.stack(when, axis=-1).astype(jnp.float32)
