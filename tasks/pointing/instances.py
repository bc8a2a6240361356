"""Problems whose inputs are points in the unit square and whose outputs are sequences of points.

Source: Vinyals et al. 2015, "Pointer Networks", sec. 3. A solution is a sequence C_1, ..., C_m of
point indices ("choices"). In arrays it is padded with N, the index of the end token, to T choices.
All instances of a batch have the same number of points, `count`, which may be less than N.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from training.errors import UserError


class Instances(NamedTuple):
    """Batch of problem instances with their reference solutions."""

    points: Float[Array, "B N 2"]  # zero from index `num_points` on
    num_points: Int[Array, ""]  # of every instance
    choices: Int[Array, "B T"]


class Problem:
    """Combinatorial problem on `low` to `high` points: its masks and the lengths of its solutions.

    Args:
        sizes: `low` and `high`.

    Raises:
        UserError: if there are fewer points than the problem needs, or `low` exceeds `high`.
    """

    has_end_token: bool  # False if the number of choices follows from the number of points
    min_points = 3

    def __init__(self, sizes: tuple[int, int]):
        self.low, self.high = sizes
        if not self.min_points <= self.low <= self.high:
            raise UserError(
                f"The sizes of a {type(self).__name__} must satisfy {self.min_points} <= low <= "
                f"high, not low={self.low} and high={self.high}."
            )

    def max_steps(self, count):
        """Maximum number of choices for `count` points, including the end token if there is one."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """T, the maximum number of choices for `high` points."""
        return self.max_steps(self.high)

    def valid_mask(
        self, chosen: Bool[Array, "*B S"], position: Int[Array, "..."], count: Int[Array, ""]
    ) -> Bool[Array, "*B S"]:
        """Mask of the S = N + 1 indices that extend a partial solution to a valid one.

        Args:
            chosen: true for the indices chosen before.
            position: number of previous choices; broadcastable to `[*B, 1]`.
            count: number of points.
        """
        raise NotImplementedError

    def padding_mask(
        self, chosen: Bool[Array, "*B S"], position: Int[Array, "..."], count: Int[Array, ""]
    ) -> Bool[Array, "*B S"]:
        """Mask of the existing points, and of the end token if the problem has one.

        The arguments are the same as for `valid_mask`.
        """
        del position
        exists = jnp.arange(chosen.shape[-1]) < count
        exists = exists.at[-1].set(self.has_end_token)
        return jnp.broadcast_to(exists, chosen.shape)

    def target_mask(self, choices: Int[Array, "*B T"], end: int) -> Bool[Array, "*B T"]:
        """Mask of the steps that count in the loss: up to the first end token, inclusive.

        Args:
            choices: padded solutions.
            end: N. If the problem has no end token, only point indices count.
        """
        mask = choices < end
        if self.has_end_token:
            mask = jnp.roll(mask, 1, axis=-1).at[..., 0].set(True)
        return mask


class Tour(Problem):
    """Traveling salesman problem: the shortest tour, starting from the first city (sec. 3.3)."""

    has_end_token = False

    def max_steps(self, count):
        return count

    def valid_mask(self, chosen, position, count):
        """Mask of the first city at step 0, and of unvisited cities after it."""
        exists = self.padding_mask(chosen, position, count)
        first = jnp.arange(chosen.shape[-1]) == 0
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        valid = jnp.where(position == 0, first, exists & ~chosen)
        return jnp.where(position < count, valid, end)


class Hull(Problem):
    """Convex hull: its vertices counter-clockwise, starting from the lowest index (sec. 3.1)."""

    has_end_token = True

    def max_steps(self, count):
        return count + 1

    def valid_mask(self, chosen, position, count):
        """Mask of points that are not chosen yet; the end token follows three vertices or more."""
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        valid = self.padding_mask(chosen, position, count) & ~chosen
        return jnp.where(end, position >= 3, valid & (position < count))


class Triangulation(Problem):
    """Delaunay triangulation: three choices per triangle (sec. 3.2)."""

    has_end_token = True

    def max_steps(self, count):
        """Maximum number of choices: n points have at most 2n - 5 triangles (triangular hull)."""
        return 3 * (2 * count - 5) + 1

    def valid_mask(self, chosen, position, count):
        """Mask of all points; the end token follows complete triangles only."""
        end = jnp.arange(chosen.shape[-1]) == chosen.shape[-1] - 1
        valid = self.padding_mask(chosen, position, count)
        may_end = (position > 0) & (position % 3 == 0)
        return jnp.where(end, may_end, valid & (position < self.max_steps(count) - 1))


def sample_points(
    key: PRNGKeyArray, indices: Int[Array, " B"], low: int, high: int, size: int
) -> tuple[Float[Array, "B N 2"], Int[Array, ""]]:
    """Sample points uniformly from the unit square.

    Args:
        key: PRNG key.
        indices: index of each instance; its points depend on `key` and this index only.
        low: minimum number of points.
        high: maximum number of points.
        size: N.

    Returns:
        Points, zero from index `count` on, and `count`, sampled uniformly from `low` to `high`.
    """
    count = jnp.int32(high)  # a constant if possible, so that XLA knows the trip counts of loops
    if low < high:
        count = jax.random.randint(jax.random.fold_in(key, 0), (), low, high + 1)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index + 1))(indices)
    points = jax.vmap(lambda key: jax.random.uniform(key, (size, 2)))(keys)
    exists = jnp.arange(size) < count
    return jnp.where(exists[:, None], points, 0.0), count
