"""Properties of all recurrent encoder-decoders: cached decoding, causality, gradients, dropout."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.beam_search import beam_search
from models.encoder_decoder import Attention
from tests.models.seq2seq import tiny
from tests.models.tiny import SOURCE, TARGET, unoptimized_jit

ALIGNMENTS = ("soft", "hard", "straight_through", "local_m", "local_p", "none")
SCORES = ("content", "additive", "location", "general", "dot", "scaled_dot")
EOS, DROPOUT = 2, 0.1

every_model = pytest.mark.parametrize("name", tiny.MODELS)
default_models = pytest.mark.parametrize(
    "choice", [("rnnsearch",), ("luong", "general"), ("luong_feeding", "dot")]
)


def test_model_without_attention_returns_no_weights():
    model = nnx.merge(*tiny.build("rnnsearch", alignment="none"))
    assert model.attention(SOURCE, TARGET) == Attention([], [], [])


def check_steps(*choice):
    outputs = tiny.run(*tiny.build(*choice), SOURCE, TARGET)
    for beam in range(2):
        np.testing.assert_allclose(outputs.step_logits[:, beam], outputs.logits, atol=1e-5)


@pytest.mark.parametrize(
    "choice",
    [
        ("rnnsearch",),
        ("rnnsearch", "content", "hard", "lstm", "reverse"),
        ("rnnsearch", "location", "local_p", "lstm", "forward"),
        ("luong", "general"),
        ("luong", "scaled_dot", "local_m"),
        ("luong_feeding", "dot"),
        ("luong_feeding", "additive", "none", "self_attention"),
    ],
)
def test_decoding_steps_equal_the_full_pass(choice):
    check_steps(*choice)


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("score", SCORES)
def test_decoding_steps_equal_the_full_pass_for_every_combination(name, score, alignment):
    check_steps(name, score, alignment)


def test_padding_does_not_change_logits():
    graphdef, params = tiny.build("rnnsearch", "location", "local_p", "lstm", "forward")
    padded = tiny.run(graphdef, params, SOURCE, TARGET).logits
    unpadded = tiny.run(graphdef, params, SOURCE[1:, :3], TARGET[1:, :3]).logits
    np.testing.assert_allclose(padded[1, :3], unpadded[0], atol=1e-5)


@default_models
def test_source_of_padding_only_gives_finite_logits(choice):
    outputs = tiny.run(*tiny.build(*choice), jnp.zeros_like(SOURCE), TARGET)
    assert jnp.isfinite(outputs.logits).all()


@default_models
def test_logits_depend_on_earlier_targets_only(choice):
    graphdef, params = tiny.build(*choice)
    before = tiny.run(graphdef, params, SOURCE, TARGET).logits[0]
    for t in range(TARGET.shape[1]):
        after = tiny.run(graphdef, params, SOURCE, TARGET.at[0, t:].set(3)).logits[0]
        np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
        if t + 1 < TARGET.shape[1]:
            assert jnp.abs(after[t + 1] - before[t + 1]).max() > 1e-6


class Trained(NamedTuple):
    """Outputs of `train_step`."""

    params: nnx.State
    velocity: nnx.State
    gradients: nnx.State
    loss: jax.Array


@partial(unoptimized_jit, static_argnums=0)
def train_step(graphdef, params, velocity, source, key):
    """Take a step of gradient descent with momentum on the cross-entropy of `TARGET`.

    Log-probabilities of sampled alignments are added, so that the score receives gradients.
    """

    def loss(params):
        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(source, key)
        states, alignment = model.decode(TARGET, memory, key)
        log_probs = jax.nn.log_softmax(states @ model.output_embedding.T)
        labels = jnp.take_along_axis(log_probs, TARGET[..., None], -1)[..., 0]
        loss = -jnp.sum(labels * (TARGET > 0)) / jnp.sum(TARGET > 0)
        return loss if alignment.log_prob is None else loss + jnp.sum(alignment.log_prob)

    value, gradients = jax.value_and_grad(loss)(params)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    params = jax.tree.map(lambda w, v: w - 0.1 * v, params, velocity)
    return Trained(params, velocity, gradients, value)


def zeros_like(params):
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)


def check_gradients(*choice):
    """Check the gradients of all parameters; one source is padding only."""
    graphdef, params = tiny.build(*choice, dropout=DROPOUT)
    source = SOURCE.at[1].set(0)
    trained = train_step(graphdef, params, zeros_like(params), source, jax.random.key(1))
    for path, gradient in jax.tree_util.tree_leaves_with_path(trained.gradients):
        assert jnp.isfinite(gradient).all(), jax.tree_util.keystr(path)
        assert gradient.any(), jax.tree_util.keystr(path)


TRAINED = [
    ("rnnsearch",),
    ("luong", "scaled_dot", "local_m"),
    ("luong_feeding", "content", "local_p"),
]


@pytest.mark.parametrize("choice", [("rnnsearch", "scaled_dot", "hard"), *TRAINED])
def test_every_parameter_has_a_finite_nonzero_gradient(choice):
    check_gradients(*choice)


@pytest.mark.slow
@every_model
@pytest.mark.parametrize(
    "attention",
    [*(("additive", x) for x in ALIGNMENTS), *((x, "soft") for x in SCORES if x != "additive")],
)
def test_every_parameter_has_a_finite_nonzero_gradient_for_every_combination(name, attention):
    check_gradients(name, *attention)


@pytest.mark.parametrize("choice", TRAINED)
def test_model_overfits_two_sentence_pairs(choice):
    """The key, and with it the dropout mask, is the same at all steps."""
    graphdef, params = tiny.build(*choice, dropout=DROPOUT)
    velocity, losses, key = zeros_like(params), [], jax.random.key(0)
    for _ in range(300):
        params, velocity, _, loss = train_step(graphdef, params, velocity, SOURCE, key)
        losses.append(loss)
    assert losses[0] > 2 and losses[-1] < 0.05


@pytest.mark.parametrize("choice", [("rnnsearch",), ("luong_feeding", "dot")])
def test_beam_search_scores_equal_the_full_pass(choice):
    """The cache must be reordered with the beams."""
    graphdef, params = tiny.build(*choice)
    length = TARGET.shape[1]

    @unoptimized_jit
    def search(params):
        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(SOURCE)
        return beam_search(
            lambda tokens, cache, position: model.decode_step(tokens, cache, memory, position),
            model.init_cache(memory, 3, length),
            jnp.full(len(SOURCE), length),
            length=length,
            width=3,
            length_penalty=0.0,
            pad=model.pad,
            bos=model.bos,
            eos=EOS,
        )

    tokens, scores = search(params)
    assert len({tuple(beam) for beam in np.asarray(tokens[0])}) == 3
    for beam in range(3):
        logits = tiny.run(graphdef, params, SOURCE, tokens[:, beam]).logits
        log_probs = jnp.take_along_axis(
            jax.nn.log_softmax(logits), tokens[:, beam, :, None], axis=-1
        )[..., 0]
        end = jnp.argmax(tokens[:, beam] == EOS, axis=-1, keepdims=True)
        expected = jnp.sum(log_probs * (jnp.arange(length) <= end), axis=-1)
        np.testing.assert_allclose(scores[:, beam], expected, atol=1e-4)


def test_dropout_depends_on_the_key_only():
    graphdef, params = tiny.build("luong_feeding", "dot", dropout=DROPOUT)

    @unoptimized_jit
    def states(params, key):
        model = nnx.merge(graphdef, params)
        return model.decode(TARGET, model.encode(SOURCE, key)[0], key)[0]

    first, repeated, other = (states(params, jax.random.key(n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, repeated)
    assert (first != other).any()
    without_dropout = tiny.run(*tiny.build("luong_feeding", "dot"), SOURCE, TARGET).states
    np.testing.assert_array_equal(states(params, None), without_dropout)
    assert (first != without_dropout).any()
