"""Cross-entropy of a softmax output layer, computed in chunks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from models.device_batch import divided_axes
from models.layers import output_logits


def linear_cross_entropy(
    states: Float[Array, "*B D"],
    table: Float[Array, "V D"],
    labels: Int[Array, "*B"],
    valid: Bool[Array, "*B"],
    smoothing: float = 0.0,
    chunk: int = 256,
) -> Float[Array, ""]:
    """Cross-entropy of `softmax(states @ table.T)`, summed over valid positions, in nats.

    The target distribution puts `1 - smoothing` on the label and spreads `smoothing` evenly over
    the vocabulary (Szegedy et al. 2016, sec. 7; Vaswani et al. 2017, sec. 5.4).

    The logits `[*B, V]` are never stored: a loop computes them for `chunk` positions at a time. The
    forward loop also computes the derivatives of the loss. The loss is a scalar, so the backward
    pass only multiplies them by a scalar cotangent and does not recompute the logits. Each device
    loops over its part of the batch; if devices cannot have equal parts, all loop over the whole.

    Args:
        states: `[*B, D]`, input of the output layer.
        table: `[V, D]`, output embedding.
        labels: `[*B]` tokens.
        valid: `[*B]`, positions that contribute to the loss.
        smoothing: in [0, 1).
        chunk: positions whose logits are held at a time.
    """
    loss = partial(_flat_cross_entropy, smoothing, chunk)
    mesh, axes = jax.sharding.get_abstract_mesh(), divided_axes()
    if not axes or len(labels) % math.prod(mesh.shape[axis] for axis in axes):
        return loss(states, table, labels, valid)

    def per_device(states, table, labels, valid):
        # Each device loops over its own positions. `table` is marked as varying, so that its
        # gradient is summed over devices once, after the loop.
        table = lax.pcast(table, axes, to="varying")
        return lax.psum(loss(states, table, labels, valid), axes)

    sharded, replicated = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        per_device,
        in_specs=(sharded, replicated, sharded, sharded),
        out_specs=replicated,
        axis_names={*axes},
    )(states, table, labels, valid)


def log_probs(
    states: Float[Array, "*B D"], table: Float[Array, "V D"], labels: Int[Array, "*B"]
) -> Float[Array, "*B"]:
    """Log-probability of each label under `softmax(states @ table.T)`, in float32 nats."""
    logits = output_logits(states, table)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _flat_cross_entropy(smoothing, chunk, states, table, labels, valid):
    """Flatten the positions and pad them to a multiple of the chunk size."""
    padding = -labels.size % chunk
    flat = lambda x, *width: jnp.pad(
        x.reshape(-1, *width), ((0, padding), *((0, 0) for _ in width))
    )
    states = flat(states, states.shape[-1])
    return _chunked_cross_entropy(smoothing, chunk, states, table, flat(labels), flat(valid))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked_cross_entropy(smoothing, chunk, states, table, labels, valid):
    def body(loss, position):
        x, label, weight = _slice(chunk, position, states, labels, valid)
        return loss + _loss_and_d_logits(smoothing, x, table, label, weight)[0], None

    return _scan(body, jnp.zeros(()), chunk, labels)


def _forward(smoothing, chunk, states, table, labels, valid):
    def body(carry, position):
        loss, d_states, d_table = carry
        x, label, weight = _slice(chunk, position, states, labels, valid)
        chunk_loss, d_logits = _loss_and_d_logits(smoothing, x, table, label, weight)
        d_logits = d_logits.astype(states.dtype)
        d_x = jnp.einsum("bv,vd->bd", d_logits, table)
        d_states = lax.dynamic_update_slice_in_dim(d_states, d_x, position, 0)
        d_table += jnp.einsum("bv,bd->vd", d_logits, x, preferred_element_type=jnp.float32)
        return (loss + chunk_loss, d_states, d_table), None

    start = (jnp.zeros(()), jnp.zeros(states.shape, states.dtype), jnp.zeros(table.shape))
    loss, d_states, d_table = _scan(body, start, chunk, labels)
    return loss, (d_states, d_table.astype(table.dtype))


def _backward(smoothing, chunk, gradients, d_loss):
    d_states, d_table = ((d_loss * d).astype(d.dtype) for d in gradients)
    return d_states, d_table, None, None


_chunked_cross_entropy.defvjp(_forward, _backward)


def _loss_and_d_logits(smoothing, x, table, label, weight):
    """Loss of a chunk and its derivative with respect to the logits, softmax minus target."""
    logits = jnp.einsum("bd,vd->bv", x, table, preferred_element_type=jnp.float32)
    largest = logits.max(-1, keepdims=True)
    exponentials = jnp.exp(logits - largest)
    total = exponentials.sum(-1, keepdims=True)
    log_total = (largest + jnp.log(total))[:, 0]
    expected = jnp.take_along_axis(logits, label[:, None], axis=-1)[:, 0]
    expected = (1 - smoothing) * expected + smoothing * logits.mean(-1)
    loss = jnp.sum(weight * (log_total - expected))
    on_label = jnp.arange(table.shape[0]) == label[:, None]
    target = jnp.where(on_label, 1 - smoothing, 0.0) + smoothing / table.shape[0]
    return loss, weight[:, None] * (exponentials / total - target)


def _slice(chunk, position, states, labels, valid):
    x, label, weight = (
        lax.dynamic_slice_in_dim(whole, position, chunk) for whole in (states, labels, valid)
    )
    return x, label, weight.astype(jnp.float32)


def _scan(body, start, chunk, labels):
    """Scan over the chunks. Within `shard_map` the carry varies over the axes of the labels."""
    varying = tuple(jax.typeof(labels).manual_axis_type.varying)
    start = jax.tree.map(lambda x: lax.pcast(x, varying, to="varying"), start)
    return lax.scan(body, start, jnp.arange(0, labels.size, chunk))[0]
