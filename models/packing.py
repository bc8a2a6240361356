"""Work on the real positions of a padded batch alone: padding costs nothing.

Everything in a Transformer but attention treats positions one by one. `Rows` brings the real ones
of `[B, T]` to the front of a list of rows, and `Rows.map` visits that list block by block until
none is left. Within a block all stays in cache, which is worth having even without padding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped


class Rows(NamedTuple):
    """The positions of a batch as rows, the real ones first; or all of them in their order.

    Attributes:
        valid: `[B, T]`, which positions are real.
        order: `[N]`, the position (counted through `[B, T]`) of each row.
        rank: `[B, T]`, the row of each position; padding shares that after the last real one.
        block: how many rows `map` visits at a time; 0 for all of them at once, in their order.
    """

    valid: Bool[Array, "B T"]
    order: Int[Array, " N"]
    rank: Int[Array, "B T"]
    block: int

    @classmethod
    def of(cls, valid: Bool[Array, "B T"], block: int) -> "Rows":
        """Packs in blocks, if there is one device: rows had better not move between several."""
        everywhere = jnp.arange(valid.size)
        if not block or jax.sharding.get_abstract_mesh().size > 1:
            return cls(valid, everywhere, everywhere.reshape(valid.shape), 0)
        order = jnp.argsort(~valid.reshape(-1), stable=True)
        order = jnp.pad(order, (0, -valid.size % block))
        rank = jnp.where(valid, jnp.cumsum(valid).reshape(valid.shape) - 1, jnp.sum(valid))
        return cls(valid, order, rank, block)

    def pack(self, x: Shaped[Array, "B T *D"]) -> Shaped[Array, "N *D"]:
        """The rows of these positions; zeros in rows beyond the real ones."""
        if not self.block:
            return x.reshape(-1, *x.shape[2:])
        return _pack(self._indices, x)

    def unpack(self, x: Float[Array, "N *D"]) -> Float[Array, "B T *D"]:
        """The positions of these rows; padding gets what follows the last real row."""
        if not self.block:
            return x.reshape(*self.valid.shape, *x.shape[1:])
        return _unpack(self._indices, x)

    @property
    def _indices(self):
        return self.valid, self.order, self.rank

    def map(self, f: Callable, *xs: Float[Array, "N _"]) -> Any:
        """`f(*xs)`, where `f` maps rows to rows, each by itself, and may close over weights.

        Of what happens within `f` only the results of products are kept for the gradient.

        Args:
            f: gets as many rows of each of `xs` as it pleases `map`, and the positions of these
                rows, `[n]`, last.
            xs: `[N, _]` each.
        """
        if not self.block:
            return f(*xs, self.order)
        f = jax.checkpoint(f, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
        positions = self.order
        first = jax.eval_shape(lambda: _take(self.block, (xs, positions), 0))
        f, weights = jax.closure_convert(lambda xs, at, f=f: f(*xs, at), *first)
        return _map(f, self.block, jnp.sum(self.valid), positions, xs, weights)


@jax.custom_vjp
def _pack(indices, x):
    valid, order, _ = indices
    rows = x.reshape(-1, *x.shape[2:]).at[order].get(mode="promise_in_bounds")
    real = jnp.arange(order.size) < jnp.sum(valid)
    return jnp.where(jnp.expand_dims(real, range(1, rows.ndim)), rows, 0)


@jax.custom_vjp
def _unpack(indices, x):
    _, _, rank = indices
    return x.at[rank].get(mode="promise_in_bounds")


# Each is the other's transpose, where autodiff would scatter. What `_unpack` gives to padding does
# not matter: no real position looks at it, and the gradient of a row that is not real is zero.
_pack.defvjp(
    lambda indices, x: (_pack(indices, x), indices),
    lambda indices, d: (None, _unpack(indices, d)),
)
_unpack.defvjp(
    lambda indices, x: (_unpack(indices, x), indices),
    lambda indices, d: (None, _pack(indices, d)),
)


def visit(block: int, rows: int, count: Int[Array, ""], body: Callable, start: Any) -> Any:
    """`body(i, carry)` for each block of `rows` rows that holds some of the first `count`."""

    def step(i, carry):
        return lax.cond(i * block < count, partial(body, i), lambda carry: carry, carry)

    return lax.fori_loop(0, rows // block, step, start)


def _take(block, xs, i):
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * block, block), xs)


def _put(buffers, xs, i):
    """Writes block i; buffers are `[blocks, ...]`."""
    put = lambda buffer, x: lax.dynamic_update_index_in_dim(buffer, x, i, 0)
    return jax.tree.map(put, buffers, xs)


def _room(blocks, shapes):
    return jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), shapes)


def _join(buffers):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), buffers)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _map(f, block, count, positions, xs, weights):
    def one(i):
        return f(*_take(block, (xs, positions), i), *weights)

    rows = positions.size
    start = _room(rows // block, jax.eval_shape(one, 0))
    return _join(visit(block, rows, count, lambda i, ys: _put(ys, one(i), i), start))


def _vjp(f, xs, positions, weights) -> tuple[Any, Any]:
    return jax.vjp(lambda xs, weights: f(xs, positions, *weights), xs, weights)


def _map_forward(f, block, count, positions, xs, weights):
    def one(i):
        xs_i, at = _take(block, (xs, positions), i)
        ys, vjp = _vjp(f, xs_i, at, weights)
        return ys, vjp.opaque_residuals

    rows = positions.size
    start = _room(rows // block, jax.eval_shape(one, 0))
    ys, saved = visit(block, rows, count, lambda i, all: _put(all, one(i), i), start)
    return _join(ys), (count, positions, xs, weights, saved)


def _map_backward(f, block, residuals, d_ys):
    count, positions, xs, weights, saved = residuals

    def body(i, carry):
        d_xs, d_weights = carry
        xs_i, at = _take(block, (xs, positions), i)
        _, vjp = _vjp(f, xs_i, at, weights)
        # What was saved in place of what would be computed anew.
        vjp.opaque_residuals = jax.tree.map(lambda x: x[i], saved)
        d_xs_i, d_weights_i = vjp(_take(block, d_ys, i))
        return _put(d_xs, d_xs_i, i), jax.tree.map(jnp.add, d_weights, d_weights_i)

    rows = positions.size
    blocks = lambda x: jnp.zeros((rows // block, block, *x.shape[1:]), x.dtype)
    start = jax.tree.map(blocks, xs), jax.tree.map(jnp.zeros_like, weights)
    d_xs, d_weights = visit(block, rows, count, body, start)
    return None, None, _join(d_xs), d_weights


_map.defvjp(_map_forward, _map_backward)
