"""RNNsearch and Luong against loops of their equations, and what each score makes of a source."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Luong, RNNsearch
from models.recurrence import product_by
from models.seq2seq.attention_layer import Mechanism
from tests.models.tiny import SOURCE, TARGET, VOCABULARY, filled, quick_jit

H = 8  # of states and annotations
PAD, BOS = 0, 1
ATTENTION = {
    "alignment": "soft",
    "width": 5,
    "longest": 9,
    "half_width": 1,
    "expected": 0.5,
    "entropy": 0.0,
}


def value(weight):
    return np.asarray(weight[...])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


# What a state s finds in annotations h, [S, M], by the weights of a mechanism m.
SCORES = {
    "content": lambda m, s, h: (
        abs(value(m.sharpness)) * h @ s / (np.linalg.norm(h, axis=-1) * np.linalg.norm(s))
    ),
    "additive": lambda m, s, h: np.tanh(s @ value(m.query) + h @ value(m.key)) @ value(m.vector),
    "location": lambda m, s, h: value(m.rows)[: len(h)] @ s,
    "general": lambda m, s, h: h @ value(m.key) @ s,
    "dot": lambda m, s, h: h @ s,
    "scaled_dot": lambda m, s, h: h @ s / np.sqrt(len(s)),
}


def read(mechanism, state, annotations):
    return softmax(SCORES[mechanism.score](mechanism, state, annotations)) @ annotations


def rnnsearch_by_hand(model, words, annotations, start):
    """Bahdanau et al. 2015, app. A.1.1, A.1.2 and A.2.2: one sentence, word by word."""
    w_z, w_r, w = np.split(value(model.cell.input), 3, axis=-1)
    b_z, b_r, b = np.split(value(model.cell.bias), 3)
    u_z, u_r = np.split(value(model.cell.gates), 2, axis=-1)
    u = value(model.cell.candidate)
    c_z, c_r, c = np.split(value(model.context), 3, axis=-1)
    u_o, v_o, c_o = np.split(value(model.readout), [H, H + words.shape[-1]])
    state, outputs = start, []
    for word in words:
        context = read(model.mechanism, state, annotations)
        t = state @ u_o + word @ v_o + context @ c_o + value(model.readout_bias)
        outputs.append(np.maximum(t[::2], t[1::2]))
        z = sigmoid(word @ w_z + state @ u_z + context @ c_z + b_z)
        r = sigmoid(word @ w_r + state @ u_r + context @ c_r + b_r)
        new = np.tanh(word @ w + (r * state) @ u + context @ c + b)
        state = (1 - z) * state + z * new
    return np.stack(outputs)


def luong_by_hand(model, words, annotations, start):
    """Luong et al. 2015, eq. 5 and sec. 3.3, on LSTMs of Zaremba et al. 2014."""
    states = start.reshape(len(model.layers), 2, H)
    fed, outputs = np.zeros(H), []
    for word in words:
        below, new = word, []
        for layer, (hidden, cell) in zip(model.layers, states, strict=True):
            gates = below @ value(layer.input) + hidden @ value(layer.recurrent)
            if model.feed is not None and not new:
                gates = gates + fed @ value(model.feed)
            i, f, o, g = np.split(gates + value(layer.bias), 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            below = sigmoid(o) * np.tanh(cell)
            new.append((below, cell))
        context = read(model.mechanism, below, annotations)
        fed = np.tanh(np.concatenate([context, below]) @ value(model.combine))
        states = new
        outputs.append(fed)
    return np.stack(outputs)


@pytest.mark.parametrize(
    ("create", "score", "by_hand"),
    [
        (partial(RNNsearch, maxout=7), "additive", rnnsearch_by_hand),
        (partial(Luong, layers=2, input_feeding=False), "general", luong_by_hand),
        (partial(Luong, layers=2, input_feeding=True), "dot", luong_by_hand),
    ],
    ids=["rnnsearch", "luong", "luong, fed"],
)
def test_equals_the_equations_word_by_word(create, score, by_hand):
    model = filled(
        lambda: create(
            vocabulary=VOCABULARY,
            embedding=6,
            hidden=H,
            encoder={"kind": "gru", "layers": 1, "direction": "both", "width": H},
            attention=ATTENTION | {"score": score},
            dropout=0.1,
            dtype="float32",
            key=jax.random.key(0),
        )
    )
    graph, weights = nnx.split(model)

    @quick_jit
    def read_and_decode(weights):
        built = nnx.merge(graph, weights)
        read = built.encoder(built.source_table[...][SOURCE], SOURCE != PAD, None)
        return read, built.decode(TARGET, built.encode(SOURCE)[0])[0]

    read, found = jax.device_get(read_and_decode(weights))
    for source, target, annotations, summary, states in zip(
        SOURCE, TARGET, *read, found, strict=True
    ):
        words = value(model.target_table)[np.array([BOS, *target[:-1]])]
        start = np.tanh(summary @ value(model.start) + value(model.start_bias))
        expected = by_hand(model, words, annotations[source != PAD], start)
        np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("score", SCORES)
def test_a_mechanism_weighs_a_source_by_the_equation_of_its_score(score):
    options = ATTENTION | {"score": score, "key": jax.random.key(0)}
    mechanism = filled(lambda: Mechanism(H, H, **options))
    annotations, states = (jax.random.normal(jax.random.key(n), (2, n, H)) for n in (6, 3))
    valid = SOURCE != PAD

    @quick_jit
    def attended(annotations, states):
        source = mechanism.project(annotations, annotations[:, 0], valid)
        product = product_by(mechanism.weights())
        return mechanism(product, mechanism.params(2), source, states, jnp.arange(3))

    contexts, aligned = jax.device_get(attended(annotations, states))
    annotations, states, valid = jax.device_get((annotations, states, valid))
    for b, t in np.ndindex(2, 3):
        seen, weights = annotations[b][valid[b]], aligned.weights[b, t]
        expected = softmax(SCORES[score](mechanism, states[b, t], seen))
        np.testing.assert_allclose(weights[valid[b]], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(contexts[b, t], expected @ seen, rtol=1e-5, atol=1e-5)
        assert not weights[~valid[b]].any()
