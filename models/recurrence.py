"""Recurrent layers, and a scan that computes weight gradients after the loop.

`rnn_scan` is `jax.lax.scan` with a custom VJP. The VJP of `lax.scan` accumulates the gradient of a
weight inside the backward loop, `dW += x_t^T g_t`, which reads and writes all of dW at every step,
and it stores every intermediate of every step. Here the forward loop stores the carries and the
results of the matrix products, and the backward loop recomputes the remaining intermediates
(rematerialization) and stacks the inputs x_t and cotangents g_t of every matrix product. Each dW is
then one matrix product over all steps and examples, computed after the loop.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from attention import affine
from models.layers import glorot, param

# Number of static lengths, multiples of T / 4, over which weight gradients can be computed after a
# loop of a traced number of steps.
STATIC_LENGTHS = 4

# `matmul(name, x)` is `x @ weights[name]`.
MatMul = Callable[[str, Float[Array, "*B I"]], Float[Array, "*B O"]]
# `step(matmul, consts, carry, x) -> (carry, y)`
Step = Callable[[MatMul, Any, Any, Any], tuple[Any, Any]]


@partial(jax.custom_vjp, nondiff_argnums=(0, 6))
def rnn_scan(
    step: Step,
    weights: dict[str, Float[Array, "I O"]],
    consts: Any,
    carry: Any,
    xs: Any,
    steps: Int[Array, ""] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Scan a recurrent step over time; weight gradients are computed after the backward loop.

    Args:
        step: `step(matmul, consts, carry, x) -> (carry, y)`, where `matmul(name, z)` is
            `z @ weights[name]` and may be called any number of times. It must not close over arrays
            that need gradients; pass them as `consts`.
        weights: matrices by name.
        consts: pytree of other arrays that every step reads; their gradients are accumulated step
            by step.
        carry: pytree, the initial carry.
        xs: pytree of arrays `[T, ...]`.
        steps: number of steps, T by default. It may be traced: the remaining steps cost no time in
            the forward and the backward loop.
        reverse: scan from the last step to the first.

    Returns:
        The final carry, and the outputs stacked to `[T, ...]`, zero beyond `steps`.
    """
    return _loop(partial(step, make_matmul(weights), consts), carry, xs, steps, reverse)


def _loop(body, carry, xs, steps, reverse):
    """Run `lax.scan` over the first `steps` steps of `xs`."""
    if steps is None:
        return lax.scan(body, carry, xs, reverse=reverse)

    def index(t):
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t, keepdims=False), xs)

    def indexed_body(state):
        i, carry, ys = state
        t = steps - 1 - i if reverse else i
        carry, y = body(carry, index(t))
        update = lambda ys, y: lax.dynamic_update_index_in_dim(ys, y, t, 0)
        return i + 1, carry, jax.tree.map(update, ys, y)

    length = len(jax.tree.leaves(xs)[0])
    # The constant bound is redundant; `training.flops` reads the largest number from it.
    running = lambda state: (state[0] < steps) & (state[0] < length)
    _, y = jax.eval_shape(body, carry, index(0))
    ys = jax.tree.map(lambda y: jnp.zeros((length, *y.shape), y.dtype), y)
    return lax.while_loop(running, indexed_body, (jnp.zeros_like(steps), carry, ys))[1:]


def to_batch_major(tree: Any) -> Any:
    """Transpose the outputs of a scan with one beam from `[T, B, 1, ...]` to `[B, T, ...]`."""
    return jax.tree.map(lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), tree)


def make_matmul(weights: dict[str, Float[Array, "I O"]]) -> MatMul:
    """`matmul` argument of a step that runs outside of a scan, such as a decoding step."""
    return lambda name, x: affine(x, weights[name])


def append_bias(kernel: Float[Array, "I O"], bias: Float[Array, " O"]) -> Float[Array, "I+1 O"]:
    """Append a bias as the last row of a kernel, which then multiplies `append_one(x)`.

    The gradient of a bias in a kernel is computed after the loop. The gradient of a bias in
    `consts` would be summed at every step, with an all-reduce if examples are sharded over devices.
    """
    return jnp.concatenate([kernel, bias[None]])


def append_one(x: Float[Array, "*B I"]) -> Float[Array, "*B I+1"]:
    """Append a feature that is always 1, which the bias of `append_bias` multiplies."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


@jax.custom_vjp
def _saved_matmul(x, transposed, result):
    """Product `x @ weight`, given its saved result.

    The cotangent goes to `x` and, unchanged, to `result`; the weight receives no cotangent.
    """
    del x, transposed
    return result


_saved_matmul.defvjp(
    lambda x, transposed, result: (result, transposed),
    lambda transposed, g: (affine(g, transposed), None, g),
)


def _scan_forward(step, weights, consts, carry, xs, steps, reverse):
    def body(carry, x):
        results: dict[str, list[Array]] = {name: [] for name in weights}

        def matmul(name, z):
            results[name].append(affine(z, weights[name]))
            return results[name][-1]

        new_carry, y = step(matmul, consts, carry, x)
        return new_carry, (y, carry, results)

    last, (ys, carries, results) = _loop(body, carry, xs, steps, reverse)
    return (last, ys), (weights, consts, carries, xs, steps, results)


def _scan_backward(step, reverse, residuals, cotangents):
    weights, consts, carries, xs, steps, results = residuals
    # Without the barrier XLA's CPU backend moves the transposition into the loop.
    transposed = lax.optimization_barrier({name: w.T for name, w in weights.items()})

    def recompute(carry, x, floats):
        """Run one step from saved matrix products; also return the inputs of these products."""
        inputs: dict[str, list[Array]] = {name: [] for name in weights}
        consts_floats, carry_floats, x_floats, results = floats

        def matmul(name, z):
            result = results[name][len(inputs[name])]
            inputs[name].append(z)
            return _saved_matmul(z, transposed[name], result)

        outputs = step(
            matmul,
            _replace_float_leaves(consts, consts_floats),
            _replace_float_leaves(carry, carry_floats),
            _replace_float_leaves(x, x_floats),
        )
        return tuple(map(_float_leaves, outputs)), inputs

    def body(gradients, residuals):
        d_carry, d_consts = gradients
        carry, x, results, d_y = residuals
        floats = (_float_leaves(consts), _float_leaves(carry), _float_leaves(x), results)
        _, step_vjp, inputs = jax.vjp(partial(recompute, carry, x), floats, has_aux=True)
        ((d_consts_step, d_carry, d_x, d_results),) = step_vjp((d_carry, d_y))
        d_consts = jax.tree.map(jnp.add, d_consts, d_consts_step)
        return (d_carry, d_consts), (d_x, d_results, inputs)

    d_last, d_ys = map(_float_leaves, cotangents)
    # Gradients are summed over steps in at least float32.
    zeros = lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
    start = d_last, [zeros(x) for x in _float_leaves(consts)]
    (d_carry, d_consts), (d_xs, d_results, inputs) = _loop(
        body, start, (carries, xs, results, d_ys), steps, not reverse
    )

    def d_weights(length):
        outer = partial(_sum_of_outer_products, length)
        return {
            name: sum(
                map(outer, inputs[name], d_results[name]), start=jnp.zeros(weight.shape)
            ).astype(weight.dtype)
            for name, weight in weights.items()
        }

    return (
        _at_static_length(d_weights, steps, len(jax.tree.leaves(xs)[0])),
        _tree_of_gradients(consts, d_consts),
        _tree_of_gradients(carries, d_carry),
        _tree_of_gradients(xs, d_xs),
        None,
    )


rnn_scan.defvjp(_scan_forward, _scan_backward)


def _at_static_length(fn, steps, length):
    """Call `fn(n)` with the smallest of `STATIC_LENGTHS` lengths n >= `steps`."""
    if steps is None:
        return fn(length)
    lengths = [-(-length * n // STATIC_LENGTHS) for n in range(1, STATIC_LENGTHS + 1)]
    index = jnp.sum(jnp.array(lengths) < steps)
    return lax.switch(index, [partial(fn, n) for n in lengths])


def _sum_of_outer_products(length, x, g):
    """`sum x_t^T g_t` over the first `length` steps and all examples, in float32.

    The axes of steps and examples are not merged, so that examples may be sharded over devices:
    each device sums over its own examples before one all-reduce.
    """
    axes = tuple(range(x.ndim - 1))
    return jnp.tensordot(x[:length], g[:length], (axes, axes), preferred_element_type=jnp.float32)


def _is_float(x):
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _float_leaves(tree):
    """Leaves that have gradients: no integers, masks or PRNG keys."""
    return [x for x in jax.tree.leaves(tree) if _is_float(x)]


def _replace_float_leaves(tree, floats):
    """Replace the `_float_leaves` of a tree."""
    floats = iter(floats)
    return jax.tree.map(lambda x: next(floats) if _is_float(x) else x, tree)


def _tree_of_gradients(tree, floats):
    """Gradients in the structure and dtypes of `tree`, `None` for leaves that are not floats."""
    floats = iter(floats)
    return jax.tree.map(lambda x: next(floats).astype(x.dtype) if _is_float(x) else None, tree)


def lstm_cell(
    preactivations: Float[Array, "*B G"], cell: Float[Array, "*B H"]
) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
    """Hidden and cell state of an LSTM with forget gate (Gers et al. 2000), without peepholes.

    Args:
        preactivations: inputs of the nonlinearities of the input, forget and output gates and of
            the candidate, `[*B, 4H]`.
        cell: cell state of the previous step.
    """
    hidden = cell.shape[-1]
    # With sigmoid(x) = (1 + tanh(x / 2)) / 2, all four activations are one elementwise tanh.
    scale = jnp.where(jnp.arange(4 * hidden) < 3 * hidden, 0.5, 1.0).astype(preactivations.dtype)
    *gates, candidate = jnp.split(jnp.tanh(preactivations * scale), 4, axis=-1)
    input_gate, forget_gate, output_gate = (0.5 * gate + 0.5 for gate in gates)
    cell = forget_gate * cell + input_gate * candidate
    return output_gate * jnp.tanh(cell), cell


def gru_cell(
    matmul: MatMul, projected: Float[Array, "*B G"], hidden: Float[Array, "*B H"]
) -> Float[Array, "*B H"]:
    """Hidden state of a gated recurrent unit (Cho et al. 2014; Bahdanau et al. 2015, app. A.1.1).

    The update is `(1 - z) h + z h'` as in Bahdanau et al.; Cho et al. swap z and 1 - z.

    Args:
        matmul: multiplies by the weights `gates` `[H, 2H]` and `candidate` `[H, H]`.
        projected: input projection, the terms of update gate, reset gate and candidate that do not
            depend on the hidden state, `[*B, 3H]`.
        hidden: hidden state of the previous step.
    """
    width = hidden.shape[-1]
    gates = projected[..., : 2 * width] + matmul("gates", hidden)
    update, reset = jnp.split(0.5 * jnp.tanh(0.5 * gates) + 0.5, 2, axis=-1)
    candidate = jnp.tanh(projected[..., 2 * width :] + matmul("candidate", reset * hidden))
    return hidden + update * (candidate - hidden)


class LSTM(nnx.Module):
    """Long short-term memory layer; the bias of the forget gates is initialized to one."""

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        self.input = param(glorot(keys[0], (width, 4 * hidden), width, hidden), ("embed", "mlp"))
        self.recurrent = param(orthogonal(keys[1], hidden, 4), ("embed", "mlp"))
        bias = jnp.zeros((4, hidden)).at[1].set(1.0)
        self.bias = param(bias.reshape(-1), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "H _"]]:
        """Recurrent weights, multiplied by the hidden state at every step."""
        return {"recurrent": self.recurrent[...]}

    def project_inputs(self, x: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
        """`x W + b`; one call projects the inputs of all known steps."""
        return affine(x, self.input[...], self.bias[...])

    def init_carry(self, batch: int, dtype) -> tuple[Array, Array]:
        """Hidden and cell state before the first step."""
        zeros = jnp.zeros((batch, self.recurrent.shape[0]), dtype)
        return zeros, zeros

    @staticmethod
    def step(matmul: MatMul, projected, carry):
        """Compute one step and return the new carry and the output."""
        hidden, cell = lstm_cell(projected + matmul("recurrent", carry[0]), carry[1])
        return (hidden, cell), hidden


class GRU(nnx.Module):
    """Layer of gated recurrent units."""

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.input = param(glorot(keys[0], (width, 3 * hidden), width, hidden), ("embed", "mlp"))
        self.gates = param(orthogonal(keys[1], hidden, 2), ("embed", "mlp"))
        self.candidate = param(orthogonal(keys[2], hidden, 1), ("embed", "mlp"))
        self.bias = param(jnp.zeros(3 * hidden), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "H _"]]:
        """Recurrent weights, multiplied by the hidden state at every step."""
        return {"gates": self.gates[...], "candidate": self.candidate[...]}

    def project_inputs(self, x: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
        """`x W + b`; one call projects the inputs of all known steps."""
        return affine(x, self.input[...], self.bias[...])

    def init_carry(self, batch: int, dtype) -> Array:
        """Hidden state before the first step."""
        return jnp.zeros((batch, self.candidate.shape[0]), dtype)

    @staticmethod
    def step(matmul: MatMul, projected, carry):
        """Compute one step and return the new carry and the output."""
        hidden = gru_cell(matmul, projected, carry)
        return hidden, hidden


def unroll(
    layer: LSTM | GRU,
    x: Float[Array, "B T D"],
    valid: Bool[Array, "B T"],
    reverse: bool = False,
) -> tuple[Float[Array, "B T H"], Any]:
    """Run a recurrent layer over padded sequences.

    Args:
        layer: the layer.
        x: inputs.
        valid: false at padding, where the carry and the output of the previous step are repeated.
        reverse: run from the last position to the first.

    Returns:
        The output at each position, and the final carry.
    """

    def step(matmul, consts, carry, x):
        del consts
        projected, valid = x
        new, _ = layer.step(matmul, projected, carry)
        new = jax.tree.map(lambda new, old: jnp.where(valid[:, None], new, old), new, carry)
        return new, jax.tree.leaves(new)[0]

    carry = layer.init_carry(len(x), x.dtype)
    projected = jnp.swapaxes(layer.project_inputs(x), 0, 1)
    carry, outputs = rnn_scan(
        step, layer.weights(), None, carry, (projected, valid.T), reverse=reverse
    )
    return jnp.swapaxes(outputs, 0, 1), carry


def orthogonal(key: PRNGKeyArray, width: int, blocks: int) -> Float[Array, "H _"]:
    """Concatenate random orthogonal `[width, width]` matrices column-wise (Saxe et al. 2014)."""
    init = jax.nn.initializers.orthogonal()
    return jnp.concatenate(
        [init(k, (width, width), jnp.float32) for k in jax.random.split(key, blocks)], axis=-1
    )
