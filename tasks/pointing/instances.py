"""Questions about points of the unit square whose answers are points of the same: what all share.

An answer is a row of choices: numbers of points, then N, the end, until the row is full. All rows
of a batch have as many points, a number of its own, while arrays are as long as the longest.
Source: Vinyals et al. 2015, sec. 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from training.errors import UserError


class Points(NamedTuple):
    """A batch of questions, and their answers."""

    points: Float[Array, "B N 2"]  # zeros where there is none
    n: Int[Array, ""]  # how many of the N there are
    choices: Int[Array, "B T"]


class Problem:
    """What is asked, of `low` to `high` points.

    Raises:
        UserError: for numbers of points that make no question.
    """

    ends: bool  # whether an answer says where it ends, or that is known
    least = 3  # points

    def __init__(self, sizes: tuple[int, int]):
        self.low, self.high = sizes
        if not self.least <= self.low <= self.high:
            raise UserError(
                f"There is no {type(self).__name__} of {self.low} to {self.high} points."
            )

    def steps(self, count):
        """Most choices of an answer about `count` points, the end among them if it is said."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """T, choices of the longest answer."""
        return self.steps(self.high)

    def allowed(
        self, chosen: Bool[Array, "*B S"], position: Int[Array, "..."], count: Int[Array, ""]
    ) -> Bool[Array, "*B S"]:
        """What may be chosen, of S = N + 1, if an answer is to be valid.

        Args:
            chosen: what was chosen before.
            position: how many choices that were; broadcasts to `[*B, 1]`.
            count: how many points there are.
        """
        raise NotImplementedError

    def present(
        self, chosen: Bool[Array, "*B S"], position: Int[Array, "..."], count: Int[Array, ""]
    ) -> Bool[Array, "*B S"]:
        """What can be chosen at all: a point that there is, or the end, where one is said."""
        del position
        there = jnp.arange(chosen.shape[-1]) < count
        there = there.at[-1].set(self.ends)
        return jnp.broadcast_to(there, chosen.shape)

    def asked(self, choices: Int[Array, "*B T"], end: int) -> Bool[Array, "*B T"]:
        """Where an answer's choices are its own: up to the end, itself included if it is said."""
        own = choices < end
        if self.ends:
            own = jnp.roll(own, 1, axis=-1).at[..., 0].set(True)
        return own


class Tour(Problem):
    """The shortest round trip, from the first city on (sec. 3.3)."""

    ends = False

    def steps(self, count):
        return count

    def allowed(self, chosen, position, count):
        there = self.present(chosen, position, count)
        first = jnp.arange(chosen.shape[-1]) == 0
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        ahead = jnp.where(position == 0, first, there & ~chosen)
        return jnp.where(position < count, ahead, end)


class Hull(Problem):
    """Corners of the convex hull, counter-clockwise from that of the lowest number (sec. 3.1)."""

    ends = True

    def steps(self, count):
        return count + 1

    def allowed(self, chosen, position, count):
        """No corner twice, and at least three."""
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        may = self.present(chosen, position, count) & ~chosen
        return jnp.where(end, position >= 3, may & (position < count))


class Triangulation(Problem):
    """The Delaunay triangulation, three choices to a triangle (sec. 3.2)."""

    ends = True

    def steps(self, count):
        """Of n points there are at most 2n - 5 triangles, as many as if three were the hull."""
        return 3 * (2 * count - 5) + 1

    def allowed(self, chosen, position, count):
        """Whole triangles."""
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        may = self.present(chosen, position, count)
        ending = (position > 0) & (position % 3 == 0)
        return jnp.where(end, ending, may & (position < self.steps(count) - 1))


def draw(
    key: PRNGKeyArray, rows: Int[Array, " B"], low: int, high: int, size: int
) -> tuple[Float[Array, "B N 2"], Int[Array, ""]]:
    """Points uniform in the unit square, and how many of the N there are, from `low` to `high`.

    A row depends on the key and its own number alone.
    """
    count = jnp.int32(high)  # a constant where it can be: then loops over points know their length
    if low < high:
        count = jax.random.randint(jax.random.fold_in(key, 0), (), low, high + 1)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row + 1))(rows)
    points = jax.vmap(lambda key: jax.random.uniform(key, (size, 2)))(keys)
    there = jnp.arange(size) < count
    return jnp.where(there[:, None], points, 0.0), count
