"""Loops over time, and the recurrent layers made of them.

`scan` is `jax.lax.scan` with another derivative. Plain differentiation adds a weight's gradient up
step by step, `dW += x_t^T g_t`: a thin product and a pass over all of `dW` at every step; and it
keeps every intermediate of every step. Here a step keeps its carry and its products, the rest is
computed again on the way back, and each `dW` is one product over all steps after the loop.
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

PARTS = 4  # of a loop's length: after one of fewer steps, products are over as many as it reached

Product = Callable[[str, Float[Array, "*B I"]], Float[Array, "*B O"]]
# (product, consts, carry, x) -> (carry, y)
Step = Callable[[Product, Any, Any, Any], tuple[Any, Any]]


@partial(jax.custom_vjp, nondiff_argnums=(0, 6))
def scan(
    step: Step,
    weights: dict[str, Float[Array, "I O"]],
    consts: Any,
    carry: Any,
    xs: Any,
    steps: Int[Array, ""] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`lax.scan` of a step whose products by `weights` get their gradients after the loop.

    Args:
        step: `step(product, consts, carry, x) -> (carry, y)`, where `product(name, z)` is
            `z @ weights[name]`, as often as it likes. It must not close over arrays that want
            gradients: those are `consts`.
        weights: matrices by name.
        consts: pytree of what else the step reads; its gradients are summed step by step.
        carry: pytree at the start.
        xs: pytree of arrays `[T, ...]`.
        steps: how many of the T are taken, all unless given. It may be traced: what is not taken
            costs no time, forward or back.
        reverse: from the last x that is taken to the first.

    Returns:
        The last carry, and the outputs stacked to `[T, ...]`, zeros where no step was taken.
    """
    return _loop(partial(step, product_by(weights), consts), carry, xs, steps, reverse)


def _loop(body, carry, xs, steps, reverse):
    """`lax.scan` over the first `steps` of `xs`."""
    if steps is None:
        return lax.scan(body, carry, xs, reverse=reverse)

    def at(t):
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t, keepdims=False), xs)

    def body_at(i, state):
        carry, ys = state
        t = steps - 1 - i if reverse else i
        carry, y = body(carry, at(t))
        put = lambda ys, y: lax.dynamic_update_index_in_dim(ys, y, t, 0)
        return carry, jax.tree.map(put, ys, y)

    length = len(jax.tree.leaves(xs)[0])
    _, y = jax.eval_shape(body, carry, at(0))
    ys = jax.tree.map(lambda y: jnp.zeros((length, *y.shape), y.dtype), y)
    return lax.fori_loop(0, steps, body_at, (carry, ys))


def product_by(weights: dict[str, Float[Array, "I O"]]) -> Product:
    """The plain `product` of a step, as outside of a scan."""
    return lambda name, x: affine(x, weights[name])


def with_bias(kernel: Float[Array, "I O"], bias: Float[Array, " O"]) -> Float[Array, "I+1 O"]:
    """A bias as the last row of what multiplies `with_one`.

    As a matrix it gets its gradient after the loop; of `consts` it would be summed at every step,
    and over all devices that rows are split over.
    """
    return jnp.concatenate([kernel, bias[None]])


def with_one(x: Float[Array, "*B I"]) -> Float[Array, "*B I+1"]:
    """A one behind each vector, for the bias to multiply."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


@jax.custom_vjp
def _known_product(x, transposed, product):
    """`x @ weight`, known already; its gradient goes to `x` and to `product`, not the weight."""
    del x, transposed
    return product


_known_product.defvjp(
    lambda x, transposed, product: (product, transposed),
    lambda transposed, g: (affine(g, transposed), None, g),
)


def _scan_forward(step, weights, consts, carry, xs, steps, reverse):
    def body(carry, x):
        products: dict[str, list[Array]] = {name: [] for name in weights}

        def product(name, z):
            products[name].append(affine(z, weights[name]))
            return products[name][-1]

        new_carry, y = step(product, consts, carry, x)
        return new_carry, (y, carry, products)

    last, (ys, carries, products) = _loop(body, carry, xs, steps, reverse)
    return (last, ys), (weights, consts, carries, xs, steps, products)


def _scan_backward(step, reverse, residuals, cotangents):
    weights, consts, carries, xs, steps, products = residuals
    # Behind a barrier, or XLA's CPU backend transposes them again at every step.
    transposed = lax.optimization_barrier({name: w.T for name, w in weights.items()})

    def replay(carry, x, floats):
        """The step without its products, as a function of numbers, and what went into them."""
        inputs: dict[str, list[Array]] = {name: [] for name in weights}
        consts_floats, carry_floats, x_floats, products = floats

        def product(name, z):
            known = products[name][len(inputs[name])]
            inputs[name].append(z)
            return _known_product(z, transposed[name], known)

        outputs = step(
            product,
            _with_floats(consts, consts_floats),
            _with_floats(carry, carry_floats),
            _with_floats(x, x_floats),
        )
        return tuple(map(_floats, outputs)), inputs

    def body(gradients, at_step):
        d_carry, d_consts = gradients
        carry, x, products, d_y = at_step
        floats = (_floats(consts), _floats(carry), _floats(x), products)
        _, pull, inputs = jax.vjp(partial(replay, carry, x), floats, has_aux=True)
        ((d_consts_step, d_carry, d_x, d_products),) = pull((d_carry, d_y))
        d_consts = jax.tree.map(jnp.add, d_consts, d_consts_step)
        return (d_carry, d_consts), (d_x, d_products, inputs)

    d_last, d_ys = map(_floats, cotangents)
    # However narrow the consts are, sums over steps are not.
    wide = lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
    start = d_last, [wide(x) for x in _floats(consts)]
    (d_carry, d_consts), (d_xs, d_products, inputs) = _loop(
        body, start, (carries, xs, products, d_ys), steps, not reverse
    )

    def d_weights(length):
        outer = partial(_outer, length)
        return {
            name: sum(
                map(outer, inputs[name], d_products[name]), start=jnp.zeros(weight.shape)
            ).astype(weight.dtype)
            for name, weight in weights.items()
        }

    return (
        _of_enough(d_weights, steps, len(jax.tree.leaves(xs)[0])),
        _gradients(consts, d_consts),
        _gradients(carries, d_carry),
        _gradients(xs, d_xs),
        None,
    )


scan.defvjp(_scan_forward, _scan_backward)


def _of_enough(form, steps, length):
    """`form(n)` of the least n that covers the steps taken, of a few: each is a program."""
    if steps is None:
        return form(length)
    lengths = [-(-length * part // PARTS) for part in range(1, PARTS + 1)]
    which = jnp.sum(jnp.array(lengths) < steps)
    return lax.switch(which, [partial(form, n) for n in lengths])


def _outer(length, x, g):
    """`sum x_t^T g_t` over the first steps and all rows, in float32.

    Steps and rows stay apart: rows may be split over devices, each of which then sums its own.
    """
    axes = tuple(range(x.ndim - 1))
    return jnp.tensordot(x[:length], g[:length], (axes, axes), preferred_element_type=jnp.float32)


def _is_float(x):
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _floats(tree):
    """Those leaves that have gradients, as integers, masks and keys have none."""
    return [x for x in jax.tree.leaves(tree) if _is_float(x)]


def _with_floats(tree, floats):
    """The tree with these in place of its `_floats`."""
    floats = iter(floats)
    return jax.tree.map(lambda x: next(floats) if _is_float(x) else x, tree)


def _gradients(tree, floats):
    """Gradients of a tree: these for its `_floats`, and none for the other leaves."""
    floats = iter(floats)
    return jax.tree.map(lambda x: next(floats).astype(x.dtype) if _is_float(x) else None, tree)


def lstm_cell(
    gates: Float[Array, "*B G"], cell: Float[Array, "*B H"]
) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
    """New hidden and cell state of an LSTM with forget gate (Gers et al. 2000), no peepholes.

    Args:
        gates: pre-activations of input, forget and output gate and of the candidate, `[*B, 4H]`.
        cell: the cell state before.
    """
    hidden = cell.shape[-1]
    # sigmoid(x) = (1 + tanh(x / 2)) / 2 makes one pass over all four of them.
    scale = jnp.where(jnp.arange(4 * hidden) < 3 * hidden, 0.5, 1.0).astype(gates.dtype)
    *gating, candidate = jnp.split(jnp.tanh(gates * scale), 4, axis=-1)
    enter, keep, leave = (0.5 * gate + 0.5 for gate in gating)
    cell = keep * cell + enter * candidate
    return leave * jnp.tanh(cell), cell


def gru_cell(
    product: Product, drive: Float[Array, "*B G"], hidden: Float[Array, "*B H"]
) -> Float[Array, "*B H"]:
    """New state of a gated recurrent unit (Cho et al. 2014) as in Bahdanau et al. 2015, app. A.1.1.

    There the update gate admits what is new, where Cho et al. let it keep what is old.

    Args:
        product: with the weights `gates` `[H, 2H]` and `candidate` `[H, H]`.
        drive: what inputs and biases add to update gate, reset gate and candidate, `[*B, 3H]`.
        hidden: the state before.
    """
    width = hidden.shape[-1]
    gates = drive[..., : 2 * width] + product("gates", hidden)
    update, reset = jnp.split(0.5 * jnp.tanh(0.5 * gates) + 0.5, 2, axis=-1)
    candidate = jnp.tanh(drive[..., 2 * width :] + product("candidate", reset * hidden))
    return hidden + update * (candidate - hidden)


class LSTM(nnx.Module):
    """One layer of long short-term memory; the forget gates start open, with a bias of one."""

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        self.input = param(glorot(keys[0], (width, 4 * hidden), width, hidden), ("embed", "mlp"))
        self.recurrent = param(orthogonal(keys[1], hidden, 4), ("embed", "mlp"))
        bias = jnp.zeros((4, hidden)).at[1].set(1.0)
        self.bias = param(bias.reshape(-1), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "H _"]]:
        """What multiplies the state at every step."""
        return {"recurrent": self.recurrent[...]}

    def drive(self, x: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
        """What inputs add to the gates: for all steps at once, where they are known."""
        return affine(x, self.input[...], self.bias[...])

    def start(self, batch: int, dtype) -> tuple[Array, Array]:
        """Hidden and cell state before the first step."""
        zeros = jnp.zeros((batch, self.recurrent.shape[0]), dtype)
        return zeros, zeros

    @staticmethod
    def step(product: Product, drive, carry):
        """One step: the new carry, and its output."""
        hidden, cell = lstm_cell(drive + product("recurrent", carry[0]), carry[1])
        return (hidden, cell), hidden


class GRU(nnx.Module):
    """One layer of gated recurrent units."""

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.input = param(glorot(keys[0], (width, 3 * hidden), width, hidden), ("embed", "mlp"))
        self.gates = param(orthogonal(keys[1], hidden, 2), ("embed", "mlp"))
        self.candidate = param(orthogonal(keys[2], hidden, 1), ("embed", "mlp"))
        self.bias = param(jnp.zeros(3 * hidden), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "H _"]]:
        """What multiplies the state at every step."""
        return {"gates": self.gates[...], "candidate": self.candidate[...]}

    def drive(self, x: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
        """What inputs add to gates and candidate: for all steps at once, where they are known."""
        return affine(x, self.input[...], self.bias[...])

    def start(self, batch: int, dtype) -> Array:
        """The state before the first step."""
        return jnp.zeros((batch, self.candidate.shape[0]), dtype)

    @staticmethod
    def step(product: Product, drive, carry):
        """One step: the new carry, and its output."""
        hidden = gru_cell(product, drive, carry)
        return hidden, hidden


def run(
    layer: LSTM | GRU,
    x: Float[Array, "B T D"],
    valid: Bool[Array, "B T"],
    reverse: bool = False,
) -> tuple[Float[Array, "B T H"], Any]:
    """Runs a layer over padded sequences.

    Args:
        layer: its weights.
        x: inputs.
        valid: where there is input; elsewhere the state stays as it is, and so does the output.
        reverse: from the last input to the first, padding first.

    Returns:
        The output at each position, and the last carry.
    """

    def step(product, consts, carry, x):
        del consts
        drive, valid = x
        new, _ = layer.step(product, drive, carry)
        new = jax.tree.map(lambda new, old: jnp.where(valid[:, None], new, old), new, carry)
        return new, jax.tree.leaves(new)[0]

    start, drive = layer.start(len(x), x.dtype), jnp.swapaxes(layer.drive(x), 0, 1)
    last, outputs = scan(step, layer.weights(), None, start, (drive, valid.T), reverse=reverse)
    return jnp.swapaxes(outputs, 0, 1), last


def orthogonal(key: PRNGKeyArray, width: int, blocks: int) -> Float[Array, "H _"]:
    """Square orthogonal matrices side by side (Saxe et al. 2014)."""
    make = jax.nn.initializers.orthogonal()
    return jnp.concatenate(
        [make(k, (width, width), jnp.float32) for k in jax.random.split(key, blocks)], axis=-1
    )
