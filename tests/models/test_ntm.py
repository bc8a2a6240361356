"""The Neural Turing Machine against a loop of its equations; the LSTM against the paper's count."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention import read
from attention.memory import Addressing, address, write
from models.ntm import NTM, LSTMController, Plain

T, B, N, M, R = 6, 3, 5, 3, 2
INS, OUTS = 4, 2
KEY = jax.random.key(0)
INPUTS = jax.random.normal(jax.random.key(1), (T, B, INS))


def ntm(controller="lstm", memory="constant", layers=1, **sizes):
    sizes = {"inputs": INS, "outputs": OUTS, "hidden": 7, "heads": R, "rows": N, "width": M} | sizes
    model = NTM(controller=controller, layers=layers, radius=1, memory=memory, key=KEY, **sizes)
    # Weights far from their start, where heads would hardly move.
    graphdef, params = nnx.split(model)
    noise = lambda x: x + 0.7 * jax.random.normal(jax.random.fold_in(KEY, x.size), x.shape)
    return nnx.merge(graphdef, jax.tree.map(noise, params))


@partial(jax.jit, static_argnums=0)
def logits_of(graphdef, params, inputs, steps):
    return nnx.merge(graphdef, params)(inputs, steps, KEY)


def run(model, inputs=INPUTS, steps=T):
    return logits_of(*nnx.split(model), inputs, jnp.int32(steps))


def lstm(gates, cell):
    i, f, o, z = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(z)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def by_hand(model, inputs):
    """One sequence, one step after the other, each head for itself."""
    value = lambda x: x[...]
    states = list(map(value, getattr(model.controller, "first", nnx.Param(jnp.zeros(1)))[...]))
    memory, reads = jnp.full((M, N), 1e-6), value(model.first_reads)
    weights, outputs = jax.nn.softmax(value(model.first_weights)), []
    for x in inputs:
        controller, seen = model.controller, []
        fed_back = reads.reshape(-1)
        if isinstance(controller, LSTMController):
            for n, (hidden, cell) in enumerate(states):
                z = jnp.concatenate([hidden, *seen[-1:], fed_back])
                gates = x @ value(controller.input[n]) + z @ value(controller.recurrent[n])
                states[n] = lstm(gates + controller.bias[...][n], cell)
                seen.append(states[n][0])
        else:
            z = x @ value(controller.input) + fed_back @ value(controller.fed_back)
            seen.append(jnp.tanh(z + value(controller.bias)))
        seen = jnp.concatenate(seen)
        said = seen @ value(model.interface) + value(model.interface_bias)
        parts = []
        for count, width in [
            (2 * R, M),
            (2 * R, 1),
            (2 * R, 1),
            (2 * R, 3),
            (2 * R, 1),
            (R, M),
            (R, M),
        ]:
            parts.append(said[: count * width].reshape(count, width))
            said = said[count * width :]
        key, strength, gate, shift, sharpness, erase, add = parts
        heads = Addressing(
            jnp.tanh(key),
            jnp.log1p(jnp.exp(strength[:, 0])),
            1 / (1 + jnp.exp(-gate[:, 0])),
            jax.nn.softmax(shift),
            1 + jnp.log1p(jnp.exp(sharpness[:, 0])),
        )
        weights = address(memory, weights, heads)
        reads = read(weights[:R], memory.T)
        memory = write(memory, weights[R:], 1 / (1 + jnp.exp(-erase)), jnp.tanh(add))
        z = jnp.concatenate([seen, reads.reshape(-1)])
        outputs.append(z @ value(model.output) + value(model.output_bias))
    return jnp.stack(outputs)


@pytest.mark.parametrize(("controller", "layers"), [("lstm", 1), ("lstm", 2), ("feed_forward", 1)])
def test_equals_the_equations_step_by_step(controller, layers):
    model = ntm(controller, layers=layers)
    found = run(model)
    expected = jax.jit(lambda x: by_hand(model, x))
    for b in range(B):
        np.testing.assert_allclose(found[:, b], expected(INPUTS[:, b]), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_the_first_steps_do_not_know_how_many_follow(controller):
    model = ntm(controller)
    np.testing.assert_allclose(run(model, steps=4)[:4], run(model)[:4], rtol=1e-5, atol=1e-5)


def test_sequences_of_a_batch_do_not_meet():
    model = ntm()
    np.testing.assert_allclose(
        run(model, INPUTS[:, 1:2])[:, 0], run(model)[:, 1], rtol=1e-4, atol=1e-5
    )


def test_what_was_said_can_only_come_back_through_the_memory():
    """A feed-forward controller has no state: with its memory wiped, it forgets all but a step."""
    model = ntm("feed_forward")
    other = INPUTS.at[0].add(1.0)
    assert np.abs(run(model, other)[-1] - run(model)[-1]).max() > 1e-4
    model.interface[...] = jnp.zeros_like(model.interface[...])
    erased = jnp.zeros_like(model.interface_bias[...]).at[-2 * R * M : -R * M].set(50.0)
    model.interface_bias[...] = erased
    np.testing.assert_allclose(run(model, other)[2:], run(model)[2:], atol=1e-6)


def test_a_controller_alone_is_one_to_which_nothing_is_fed_back():
    """Layer by layer is the same as step by step."""
    controller = LSTMController(INS, 0, 7, 3, key=KEY)
    nothing = jnp.zeros((B, 0))
    carry, outputs = controller.start(B), []
    product = lambda name, x: x @ controller.weights()[name]
    for t in range(T):
        carry, seen = controller.step(product, INPUTS[t], nothing, carry)
        outputs.append(seen)
    found = controller(INPUTS, jnp.int32(T))
    np.testing.assert_allclose(found, jnp.stack(outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", ["constant", "learned", "random"])
def test_gradients_reach_every_weight(memory):
    graphdef, params = nnx.split(ntm(memory=memory))
    loss = lambda params: jnp.sum(logits_of(graphdef, params, INPUTS, jnp.int32(T)) ** 2)
    for path, gradient in nnx.to_flat_state(jax.jit(jax.grad(loss))(params)):
        assert jnp.all(jnp.isfinite(gradient[...])) and jnp.any(gradient[...] != 0), path


@pytest.mark.parametrize(
    ("inputs", "outputs", "hidden", "printed"),
    [(10, 9, 256, 1_352_969), (8, 7, 512, 5_312_007), (8, 6, 256, 1_344_518), (1, 1, 128, 331_905)],
    ids=["copy", "repeat copy", "recall", "n-grams"],
)
def test_the_lstm_has_as_many_parameters_as_printed(inputs, outputs, hidden, printed):
    """Graves et al. 2014, table 3; the formula is 4H(3x + 5H + 3) + o(3H + 1) + 6H."""
    sizes = {"inputs": inputs, "outputs": outputs, "hidden": hidden, "layers": 3}
    weights = nnx.state(nnx.eval_shape(lambda: Plain(**sizes, key=KEY)))
    assert sum(x.size for x in jax.tree.leaves(weights)) == printed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"controller": "gru"}, "one of lstm, feed_forward, not 'gru'"),
        ({"memory": "zero"}, "one of constant, learned, random, not 'zero'"),
        ({"rows": 2}, "shifts of up to 1 need more than 2 rows"),
        ({"controller": "feed_forward", "layers": 2}, "has one layer, not 2"),
    ],
)
def test_what_cannot_be_is_a_sentence(wrong, said, unchecked):
    with pytest.raises(ValueError, match=said):
        ntm(**wrong)
