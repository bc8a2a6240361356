"""Neural Turing Machine against loops over its equations; parameter counts of the LSTM baseline."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.ntm import NTM, LSTMBaseline, LSTMController
from tests import naive
from tests.models.tiny import unoptimized_jit, with_random_params

T, B, N, M, R = 6, 3, 5, 3, 2
INPUTS, OUTPUTS, HIDDEN = 4, 2, 7
KEY = jax.random.key(0)
X = np.float32(np.random.default_rng(1).normal(size=(T, B, INPUTS)))


@cache
def ntm(controller="lstm", memory_init="constant", layers=1, **sizes):
    """Graphdef and random parameters of a model; its heads move at each step."""
    options = {"heads": R, "memory_rows": N, "memory_width": M, "max_shift": 1}
    options |= dict.fromkeys(("gate_bias", "shift_bias", "erase_bias", "backward_clip"), 0.0)
    options |= sizes
    create = partial(
        NTM,
        inputs=INPUTS,
        outputs=OUTPUTS,
        controller=controller,
        hidden=HIDDEN,
        layers=layers,
        memory_init=memory_init,
        **options,
    )
    return nnx.split(with_random_params(lambda: create(key=KEY)))


@partial(unoptimized_jit, static_argnums=0)
def jit_logits(graphdef, params, x, steps, key):
    return nnx.merge(graphdef, params)(x, steps, key)


def logits(graphdef, params, x=X, steps=T, key=KEY):
    return jax.device_get(jit_logits(graphdef, params, x, np.int32(steps), key))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def lstm(preactivations, cell):
    i, f, o, candidate = np.split(preactivations, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(cell), cell


def controller_step(controller, x, read_vectors, states):
    """Output of the controller; updates the states of an LSTM."""
    if not isinstance(controller, LSTMController):
        z = x @ controller.input[...] + read_vectors @ controller.feedback[...]
        return np.tanh(z + controller.bias[...])
    outputs = []
    for n, (hidden, cell) in enumerate(states):
        z = np.concatenate([hidden, *outputs[-1:], read_vectors])
        z = x @ controller.input[n][...] + z @ controller.recurrent[n][...]
        states[n] = lstm(z + controller.bias[...][n], cell)
        outputs.append(states[n][0])
    return np.concatenate(outputs)


def head_parameters(interface):
    """Split the interface vector and map each part to its range (sec. 3.3)."""
    parts = []
    for count, width in [*((2 * R, n) for n in (M, 1, 1, 3, 1)), (R, M), (R, M)]:
        parts.append(interface[: count * width].reshape(count, width))
        interface = interface[count * width :]
    assert not len(interface)
    key, strength, gate, shift, sharpness, erase, add = parts
    softplus = lambda x: np.logaddexp(0, x)[:, 0]
    heads = np.tanh(key), softplus(strength), sigmoid(gate)[:, 0], softmax(shift)
    return (*heads, 1 + softplus(sharpness)), sigmoid(erase), np.tanh(add)


def ntm_loop(model, inputs):
    """Logits of one sequence, computed one step and one head at a time."""
    is_lstm = isinstance(model.controller, LSTMController)
    states = list(model.controller.initial_state[...]) if is_lstm else []
    memory, read_vectors = np.full((N, M), 1e-6), model.initial_read_vectors[...]
    weightings, outputs = softmax(model.initial_weightings[...]), []
    for x in inputs:
        state = controller_step(model.controller, x, read_vectors.reshape(-1), states)
        interface = state @ model.interface[...] + model.interface_bias[...]
        heads, erase, add = head_parameters(interface)
        weightings = np.array(
            [naive.address(memory, weightings[h], *(x[h] for x in heads)) for h in range(2 * R)]
        )
        read_vectors = naive.read(weightings[:R], memory)
        memory = naive.write(memory, weightings[R:], erase, add)
        z = np.concatenate([state, read_vectors.reshape(-1)])
        outputs.append(z @ model.output[...] + model.output_bias[...])
    return np.array(outputs)


@pytest.mark.parametrize(("controller", "layers"), [("lstm", 1), ("lstm", 2), ("feed_forward", 1)])
def test_ntm_equals_loops(controller, layers):
    graphdef, params = ntm(controller, layers=layers)
    actual = logits(graphdef, params)
    model = nnx.merge(graphdef, jax.tree.map(lambda x: np.asarray(x, np.float64), params))
    for b in range(B):
        np.testing.assert_allclose(actual[:, b], ntm_loop(model, X[:, b]), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_logits_do_not_depend_on_the_number_of_later_steps(controller):
    model = ntm(controller)
    np.testing.assert_allclose(
        logits(*model, steps=4)[:4], logits(*model)[:4], rtol=1e-5, atol=1e-5
    )


def test_sequences_of_a_batch_are_independent():
    others = X.copy()
    others[:, [0, 2]] += 1
    actual, expected = logits(*ntm(), others), logits(*ntm())
    np.testing.assert_allclose(actual[:, 1], expected[:, 1], rtol=1e-4, atol=1e-5)
    assert np.abs(actual[:, 0] - expected[:, 0]).max() > 1e-3


def test_feed_forward_ntm_has_no_state_besides_its_memory():
    """If every step erases the memory, an input affects the logits of two steps only."""
    graphdef, params = ntm("feed_forward")
    other = X.copy()
    other[0] += 1
    assert np.abs(logits(graphdef, params, other)[-1] - logits(graphdef, params)[-1]).max() > 1e-4
    erasing = nnx.merge(graphdef, params)
    erasing.interface[...] = jnp.zeros(erasing.interface.shape)
    bias = np.zeros(erasing.interface_bias.shape)
    bias[-2 * R * M : -R * M] = 50  # erase gates of 1
    erasing.interface_bias[...] = jnp.asarray(bias)
    model = nnx.split(erasing)
    np.testing.assert_allclose(logits(*model, other)[2:], logits(*model)[2:], atol=1e-6)


def test_lstm_controller_by_layers_equals_step_by_step():
    """`__call__` runs layer after layer, `step` runs all layers of one step."""
    graphdef, params = nnx.split(
        with_random_params(lambda: LSTMController(INPUTS, 0, HIDDEN, 3, key=KEY))
    )

    @unoptimized_jit
    def run(params):
        controller = nnx.merge(graphdef, params)
        matmul = lambda name, x: x @ controller.weights()[name]
        carry, outputs = controller.init_carry(B), []
        for x in X:
            carry, output = controller.step(matmul, jnp.asarray(x), jnp.zeros((B, 0)), carry)
            outputs.append(output)
        return controller(jnp.asarray(X), jnp.int32(T), 0.0), jnp.stack(outputs)

    np.testing.assert_allclose(*run(params), rtol=1e-4, atol=1e-5)


def test_every_parameter_has_a_gradient():
    graphdef, params = ntm(memory_init="learned")
    loss = lambda params: jnp.sum(
        nnx.merge(graphdef, params)(jnp.asarray(X), jnp.int32(T), KEY) ** 2
    )
    gradients = jax.device_get(unoptimized_jit(jax.grad(loss))(params))
    for path, gradient in nnx.to_flat_state(gradients):
        assert np.isfinite(gradient[...]).all() and gradient[...].any(), path


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_heads_keep_their_weighting_before_training_only_with_both_biases(controller):
    sizes = {"inputs": INPUTS, "outputs": OUTPUTS, "hidden": HIDDEN, "layers": 1, "heads": R}
    sizes |= {"memory_rows": N, "memory_width": M, "max_shift": 1}
    sizes |= {"erase_bias": 0.0, "backward_clip": 0.0}
    create = partial(NTM, controller=controller, memory_init="constant", key=KEY, **sizes)
    x = jnp.asarray(np.random.default_rng(3).normal(size=(20, B, INPUTS)), jnp.float32)

    def last_weights(**biases):
        access = create(**biases).with_memory_access(x, jnp.int32(20), KEY)[1]
        return access.weightings[-1, ..., 0]

    assert jnp.all(last_weights(gate_bias=-7.0, shift_bias=3.0) > 0.95)
    assert jnp.all(last_weights(gate_bias=-7.0, shift_bias=0.0) < 0.5)
    assert jnp.all(last_weights(gate_bias=0.0, shift_bias=3.0) < 0.5)


def test_memory_is_hardly_erased_before_training_with_a_negative_erase_bias():
    sizes = {"inputs": INPUTS, "outputs": OUTPUTS, "hidden": HIDDEN, "layers": 1, "heads": R}
    sizes |= {"memory_rows": N, "memory_width": M, "max_shift": 1, "backward_clip": 0.0}
    sizes |= {"controller": "lstm", "memory_init": "constant", "gate_bias": 0.0, "shift_bias": 0.0}
    states = jnp.asarray(np.random.default_rng(4).normal(size=(B, HIDDEN)), jnp.float32)
    for bias, expected in ((0.0, 0.5), (-3.0, 0.047)):
        model = NTM(**sizes, erase_bias=bias, key=KEY)
        preactivations = 0.01 * states @ model.interface[...] + model.interface_bias[...]
        erase = model._head_parameters(preactivations)[1]
        np.testing.assert_allclose(erase, expected, rtol=0.05)


def test_backward_clip_bounds_gradients_of_the_initial_state():
    limit = 10.0
    (unclipped, params), (clipped, _) = ntm(), ntm(backward_clip=limit)
    np.testing.assert_array_equal(logits(clipped, params), logits(unclipped, params))

    @unoptimized_jit
    def gradients(params):
        loss = lambda params, graphdef: (
            1e4 * jnp.sum(nnx.merge(graphdef, params)(jnp.asarray(X), jnp.int32(T), KEY) ** 2)
        )
        return [jax.grad(loss)(params, graphdef) for graphdef in (unclipped, clipped)]

    large, bounded = (np.abs(x["initial_read_vectors"][...]).max() for x in gradients(params))
    assert bounded <= B * limit < large


def test_backward_clip_bounds_gradients_of_the_initial_state_and_the_biases_of_the_lstm():
    limit = 10.0

    @partial(unoptimized_jit, static_argnums=0)
    def gradients(backward_clip):
        def loss(initial_state, bias):
            sizes = {"inputs": INPUTS, "outputs": OUTPUTS, "hidden": HIDDEN, "layers": 2}
            model = LSTMBaseline(**sizes, backward_clip=backward_clip, key=KEY)
            model.controller.initial_state[...] = initial_state
            model.controller.bias[...] = bias
            return 1e4 * jnp.sum(model(jnp.asarray(X), jnp.int32(T), KEY) ** 2)

        zeros = jnp.zeros((2, 2, HIDDEN)), jnp.zeros((2, 4 * HIDDEN))
        return [jnp.abs(x).max() for x in jax.grad(loss, (0, 1))(*zeros)]

    (state, bias), (bounded_state, bounded_bias) = gradients(0.0), gradients(limit)
    assert bounded_state <= B * limit < state
    assert bounded_bias <= B * T * limit < bias


def test_random_initial_memory_depends_on_the_key():
    model = ntm(memory_init="random")
    first, second = logits(*model), logits(*model, key=jax.random.key(1))
    np.testing.assert_array_equal(first, logits(*model))
    assert (np.abs(first - second).max(-1) > 0).all()


@pytest.mark.parametrize(
    ("inputs", "outputs", "hidden", "count"),
    [(10, 9, 256, 1_352_969), (8, 7, 512, 5_312_007), (8, 6, 256, 1_344_518), (1, 1, 128, 331_905)],
    ids=["copy", "repeat copy", "recall", "n-grams"],
)
def test_lstm_baseline_has_the_parameter_counts_of_the_paper(inputs, outputs, hidden, count):
    """Graves et al. 2014, table 3: 4H(3x + 5H + 3) + o(3H + 1) + 6H."""
    sizes = {"inputs": inputs, "outputs": outputs, "hidden": hidden, "layers": 3}
    sizes["backward_clip"] = 0.0
    params = nnx.state(nnx.eval_shape(lambda: LSTMBaseline(**sizes, key=KEY)))
    assert sum(x.size for x in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controller": "gru"}, "controller must be one of lstm, feed_forward, not 'gru'"),
        ({"memory_init": "zero"}, "must be one of constant, learned, random, not 'zero'"),
        ({"memory_rows": 2}, "shifts of up to 1 need at least 3 memory rows, not 2"),
        ({"controller": "feed_forward", "layers": 2}, "has one layer, not 2"),
    ],
)
def test_invalid_size_is_rejected(changes, message, disable_type_checks):
    with pytest.raises(ValueError, match=message):
        ntm(**changes)
