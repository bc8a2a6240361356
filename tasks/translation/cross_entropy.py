"""Losses."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from models.packing import visit
from training.mesh import BATCH_AXES


def linear_cross_entropy(
    states: Float[Array, "*B D"],
    table: Float[Array, "V D"],
    labels: Int[Array, "*B"],
    valid: Bool[Array, "*B"],
    smoothing: float = 0.0,
    block: int = 256,
) -> Float[Array, ""]:
    """Cross-entropy of `softmax(states @ table.T)`, summed over valid positions, in nats.

    The target distribution puts `1 - smoothing` on the label and spreads `smoothing` evenly over
    the vocabulary (Szegedy et al. 2016, sec. 7; Vaswani et al. 2017, sec. 5.4).

    The logits `[*B, V]` never exist: valid positions are moved to the front and visited `block` at
    a time, so padding costs nothing and a block stays in cache. As the loss is a scalar, its
    gradients are formed in the same visit, while the block's softmax is at hand.

    Args:
        states: `[*B, D]`, what stands under the softmax.
        table: `[V, D]`, the output embedding.
        labels: `[*B]` tokens.
        valid: `[*B]`, which positions count.
        smoothing: in [0, 1).
        block: positions per visit.
    """
    pack = partial(_packed, smoothing, block)
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in BATCH_AXES if mesh.shape.get(axis, 1) > 1)
    if not axes:
        return pack(states, table, labels, valid)

    def on_each_device(states, table, labels, valid):
        # Packing moves rows, and they had better not move between devices. Marked as varying, the
        # table gets the sum of the devices' gradients.
        table = lax.pcast(table, axes, to="varying")
        return lax.psum(pack(states, table, labels, valid), axes)

    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        on_each_device, in_specs=(split, whole, split, split), out_specs=whole, axis_names={*axes}
    )(states, table, labels, valid)


def log_probs(
    states: Float[Array, "*B D"], table: Float[Array, "V D"], labels: Int[Array, "*B"]
) -> Float[Array, "*B"]:
    """Log-probability of each label under `softmax(states @ table.T)`, in nats. Holds the logits.

    Args:
        states: `[*B, D]`.
        table: `[V, D]`, the output embedding.
        labels: `[*B]` tokens.
    """
    logits = jnp.einsum("...d,vd->...v", states, table, preferred_element_type=jnp.float32)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _packed(smoothing, block, states, table, labels, valid):
    """Moves the valid rows to the front, where `_cross_entropy` visits them."""
    rows = labels.size
    order = jnp.argsort(~valid.reshape(rows), stable=True)
    states = states.reshape(rows, -1)[order]
    labels = labels.reshape(rows)[order]
    count = jnp.sum(valid)
    filler = -rows % block
    states = jnp.pad(states, ((0, filler), (0, 0)))
    labels = jnp.pad(labels, (0, filler))
    return _cross_entropy(smoothing, block, states, table, labels, count)


def _visit(smoothing, block, states, table, labels, count, i):
    """Loss and softmax-minus-target of block i; rows beyond `count` give zeros."""
    x = lax.dynamic_slice_in_dim(states, i * block, block)
    label = lax.dynamic_slice_in_dim(labels, i * block, block)
    weight = (i * block + jnp.arange(block) < count).astype(jnp.float32)
    logits = jnp.einsum("bd,vd->bv", x, table, preferred_element_type=jnp.float32)
    peak = logits.max(-1, keepdims=True)
    exponentials = jnp.exp(logits - peak)
    total = exponentials.sum(-1, keepdims=True)
    log_total = (peak + jnp.log(total))[:, 0]
    expected = jnp.take_along_axis(logits, label[:, None], axis=-1)[:, 0]
    expected = (1 - smoothing) * expected + smoothing * logits.mean(-1)
    loss = jnp.sum(weight * (log_total - expected))
    on_label = jnp.arange(table.shape[0]) == label[:, None]
    target = jnp.where(on_label, 1 - smoothing, 0.0) + smoothing / table.shape[0]
    return loss, x, weight[:, None] * (exponentials / total - target)


def _loop(block, labels, count, body, start):
    """Visits the blocks that hold valid rows, `count` in all."""
    varying = jax.typeof(count).manual_axis_type.varying  # a loop's carry must say so throughout
    start = jax.tree.map(lambda x: lax.pcast(x, tuple(varying), to="varying"), start)
    return visit(block, labels.size, count, body, start)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cross_entropy(smoothing, block, states, table, labels, count):
    def body(i, loss):
        return loss + _visit(smoothing, block, states, table, labels, count, i)[0]

    return _loop(block, labels, count, body, jnp.zeros(()))


def _forward(smoothing, block, states, table, labels, count):
    def body(i, carry):
        loss, d_states, d_table = carry
        step, x, d_logits = _visit(smoothing, block, states, table, labels, count, i)
        d_logits = d_logits.astype(states.dtype)
        d_x = jnp.einsum("bv,vd->bd", d_logits, table)
        d_states = lax.dynamic_update_slice_in_dim(d_states, d_x, i * block, 0)
        d_table += jnp.einsum("bv,bd->vd", d_logits, x, preferred_element_type=jnp.float32)
        return loss + step, d_states, d_table

    start = (jnp.zeros(()), jnp.zeros(states.shape, states.dtype), jnp.zeros(table.shape))
    loss, d_states, d_table = _loop(block, labels, count, body, start)
    return loss, (d_states, d_table.astype(table.dtype))


def _backward(smoothing, block, gradients, d_loss):
    d_states, d_table = ((d_loss * d).astype(d.dtype) for d in gradients)
    return d_states, d_table, None, None


_cross_entropy.defvjp(_forward, _backward)
