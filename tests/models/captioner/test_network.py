"""The caption generator against loops of its equations, decoding steps, and sampled attention."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import attention
from models.attention_layer import AttentionLayer, SamplingState
from models.captioner import Captioner
from tasks.cross_entropy import linear_cross_entropy, log_probs
from tasks.hard_attention import reinforce_terms
from tests.models.seq2seq.reference import context, sigmoid, value
from tests.models.tiny import decode_steps, unoptimized_jit, with_random_params

VOCABULARY, WIDTH, GRID = 7, 6, (1, 3)
FEATURES = np.random.default_rng(0).normal(size=(2, 3, WIDTH)).astype(np.float32)
CAPTIONS = jnp.array([[3, 5, 4, 2], [6, 2, 0, 0]])
ATTENTION = {
    "score": "additive",
    "alignment": "soft",
    "width": 5,
    "max_source_length": 3,
    "half_width": 1,
    "expectation_probability": 0.0,
    "entropy_weight": 0.0,
}


def create(**options):
    return Captioner(
        vocabulary=VOCABULARY,
        embedding=4,
        hidden=WIDTH,
        encoder={"kind": "features", "grid": GRID, "width": WIDTH},
        attention=ATTENTION | options,
        dropout=0.0,
        dtype="float32",
        key=jax.random.key(0),
    )


@cache
def build(**options):
    return nnx.split(with_random_params(lambda: create(**options)))


@partial(unoptimized_jit, static_argnums=0)
def run(graphdef, params, features, captions):
    """Run `decode`, and `decode_step` for two equal beams at every position."""
    model = nnx.merge(graphdef, params)
    memory = model.encode(features)
    states, alignment = model.decode(captions, memory)
    logits = states @ model.output_embedding.T
    return logits, decode_steps(model, captions, memory), alignment.weights


def loop(model, caption, a):
    """Logits of one caption by the equations of Xu et al. 2015, sec. 3.1, one word at a time."""
    mean, table = a.mean(0), value(model.embedding)
    h, c = np.split(np.tanh(mean @ value(model.initial) + value(model.initial_bias)), 2)
    logits = []
    for word in [model.bos, *caption[:-1]]:
        y = table[word]
        attended = mean if model.attention_layer.alignment == "none" else None
        z_t = context(model.attention_layer, h, a) if attended is None else attended
        z = sigmoid(h @ value(model.gate) + value(model.gate_bias)) * z_t
        gates = y @ value(model.cell.input) + value(model.cell.bias)
        gates = gates + h @ value(model.cell.recurrent) + z @ value(model.context)
        i, f, o, g = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        readout = y + h @ value(model.readout_hidden) + z @ value(model.readout_context)
        logits.append(value(model.output) @ readout)
    return np.stack(logits)


@pytest.mark.parametrize("alignment", ["soft", "none"])
def test_logits_equal_the_equations(alignment):
    graphdef, params = build(alignment=alignment)
    logits, _, _ = run(graphdef, params, FEATURES, CAPTIONS)
    model = nnx.merge(graphdef, params)
    for n, caption in enumerate(np.asarray(CAPTIONS)):
        expected = loop(model, caption, FEATURES[n])
        np.testing.assert_allclose(logits[n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alignment", ["soft", "none"])
def test_decode_steps_equal_the_full_pass(alignment):
    logits, step_logits, _ = run(*build(alignment=alignment), FEATURES, CAPTIONS)
    for beam in (0, 1):
        np.testing.assert_allclose(step_logits[:, beam], logits, rtol=1e-4, atol=1e-5)


def test_words_do_not_depend_on_later_words():
    later = CAPTIONS.at[:, 2:].set(1)
    logits, _, weights = run(*build(), FEATURES, CAPTIONS)
    changed_logits, _, changed_weights = run(*build(), FEATURES, later)
    np.testing.assert_array_equal(logits[:, :3], changed_logits[:, :3])
    np.testing.assert_array_equal(weights[:, :3], changed_weights[:, :3])
    assert not np.array_equal(logits[:, 3], changed_logits[:, 3])


def test_order_of_positions_does_not_matter():
    order = np.array([2, 0, 1])
    logits, _, weights = run(*build(), FEATURES, CAPTIONS)
    permuted_logits, _, permuted_weights = run(*build(), FEATURES[:, order], CAPTIONS)
    np.testing.assert_allclose(permuted_logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(permuted_weights, weights[..., order], rtol=1e-4, atol=1e-6)


def test_score_function_gradient_is_unbiased(monkeypatch):
    """Over all 9 samples of 2 words and 3 positions, the mean gradient is that of the mean loss."""
    graphdef, params = build(alignment="hard")
    caption, features = jnp.array([[3, 2]]), jnp.asarray(FEATURES[:1])
    paths = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * 2, indexing="ij"), -1).reshape(-1, 2)

    def sample(e, key, mask=None):
        log_probs = attention.log_soft(e, mask)
        one_hot = jax.nn.one_hot(key, 3)
        chosen = jnp.sum(one_hot * log_probs, -1)
        return attention.HardAlignment(jnp.broadcast_to(one_hot, e.shape), chosen, 0.0 * chosen)

    monkeypatch.setattr("models.attention_layer.attention.hard", sample)
    monkeypatch.setattr(
        "models.captioner.network.sampling_at", lambda s, t: s._replace(keys=s.keys[t][None])
    )

    def decode(params, path):
        state = SamplingState(path, jnp.zeros(1, bool))
        monkeypatch.setattr(AttentionLayer, "init_sampling", lambda *_: state)
        model = nnx.merge(graphdef, params)
        states, alignment = model.decode(caption, model.encode(features))
        return states, model.output_embedding, alignment

    def estimator(params, path):
        states, table, alignment = decode(params, path)
        valid = caption != 0
        loss = linear_cross_entropy(states, table, caption, valid)
        reward, baseline = log_probs(states, table, caption), jnp.array([-1.3])
        reinforce, _ = reinforce_terms(
            reward, alignment.log_prob, alignment.entropy, valid, baseline, 0.0
        )
        return loss + reinforce

    def weighted_loss(params, path):
        states, table, alignment = decode(params, path)
        nll = -log_probs(states, table, caption).sum()
        return jnp.exp(alignment.log_prob.sum()) * nll, jnp.exp(alignment.log_prob.sum())

    @unoptimized_jit
    def gradients(params):
        estimates = lax.map(lambda path: jax.grad(estimator)(params, path), paths)
        exact, probabilities = lax.map(
            lambda path: jax.grad(weighted_loss, has_aux=True)(params, path), paths
        )
        mean = jax.tree.map(lambda g: jnp.tensordot(probabilities, g, 1), estimates)
        return mean, jax.tree.map(lambda g: g.sum(0), exact), probabilities

    mean, exact, probabilities = gradients(params)
    assert probabilities.sum() == pytest.approx(1.0, rel=1e-5)
    assert probabilities.max() < 0.9
    for found, expected in zip(jax.tree.leaves(mean), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alignment": "local_m"}, "for images choose soft, hard"),
        ({"alignment": "local_p"}, "for images choose soft, hard"),
    ],
)
def test_invalid_attention_is_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: create(**options))
