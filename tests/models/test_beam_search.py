"""Beam search against greedy decoding, exhaustive search and the same thing in plain Python."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.beam_search import beam_search, largest
from tests import naive

PAD, BOS, EOS, VOCABULARY = 0, 1, 2, 4
B, LENGTH, ALPHA = 4, 4, 0.6
LIMITS = (4, 1, 3, 2)
search = partial(beam_search, length=LENGTH, length_penalty=ALPHA, pad=PAD, bos=BOS, eos=EOS)


def tables(seed):
    """Logits by sentence, position and last token."""
    return 2 * np.random.default_rng(seed).normal(size=(B, LENGTH, VOCABULARY, VOCABULARY))


def step(table, last, cache, position):
    """Logits that depend on the whole prefix through a cache, which must follow its beam.

    The cache holds the sum of the tokens before the last and a buffer written at each position.
    """
    history = cache["history"].at[:, :, position].set(last)
    prefix = cache["sum"] + (history * jnp.arange(1, LENGTH + 1)).sum(-1)
    logits = table[jnp.arange(len(last))[:, None], position, last]
    logits = logits + jnp.sin(prefix[..., None] * jnp.arange(1.0, VOCABULARY + 1))
    return logits, {"sum": cache["sum"] + last, "history": history}


def empty_cache(batch, width):
    history = jnp.zeros((batch, width, LENGTH), jnp.int32)
    return {"sum": jnp.zeros((batch, width), jnp.int32), "history": history}


def log_probs(table, prefix):
    """What `step` gives one sentence after a prefix, without a cache and in float64."""
    tokens = (BOS, *prefix)
    total = sum(tokens[:-1]) + sum((i + 1) * token for i, token in enumerate(tokens))
    logits = table[len(prefix), tokens[-1]] + np.sin(total * np.arange(1, VOCABULARY + 1))
    return logits - np.log(np.exp(logits).sum())


def log_prob(table, sequence):
    return sum(log_probs(table, sequence[:n])[token] for n, token in enumerate(sequence))


@partial(jax.jit, static_argnames="width")
def decode(table, limits, width):
    cache = empty_cache(len(limits), width)
    return search(partial(step, table), cache, limits, width=width)


def padded(sequence):
    return [*sequence, *[PAD] * (LENGTH - len(sequence))]


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_greedy(seed):
    tokens, scores = jax.device_get(decode(tables(seed), jnp.array(LIMITS), width=1))
    for b, table in enumerate(tables(seed)):
        expected = naive.greedy(partial(log_probs, table), LIMITS[b], eos=EOS)
        assert tokens[b, 0].tolist() == padded(expected)
        score = naive.penalised(log_prob(table, expected), len(expected), ALPHA)
        np.testing.assert_allclose(scores[b, 0], score, atol=1e-5)


def all_sequences(limit):
    """Everything that ends within the limit: 1 + 3 + 9 + 27 sequences of up to four tokens."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    for size in range(limit):
        for sequence in itertools.product(others, repeat=size):
            yield (*sequence, EOS)


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_exhaustive_search(seed):
    """All hypotheses in order, each with log P / lp worked out by itself; nothing after them."""
    width = 40
    tokens, scores = jax.device_get(decode(tables(seed), jnp.array(LIMITS), width=width))
    for b, table in enumerate(tables(seed)):
        ranked = sorted(
            (
                (naive.penalised(log_prob(table, y), len(y), ALPHA), y)
                for y in all_sequences(LIMITS[b])
            ),
            reverse=True,
        )
        expected_scores = [score for score, _ in ranked]
        np.testing.assert_allclose(scores[b, : len(ranked)], expected_scores, atol=1e-5)
        assert tokens[b, : len(ranked)].tolist() == [padded(y) for _, y in ranked]
        assert np.isneginf(scores[b, len(ranked) :]).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", [2, 3])
def test_a_narrow_beam_equals_plain_python(seed, width):
    """Each sentence by itself there, all at once here: no sentence waits on another's account."""
    tokens, scores = jax.device_get(decode(tables(seed), jnp.array(LIMITS), width=width))
    for b, table in enumerate(tables(seed)):
        expected = naive.beam_search(
            partial(log_probs, table), LIMITS[b], width=width, alpha=ALPHA, eos=EOS
        )
        found = [(s, y) for s, y in zip(scores[b], tokens[b], strict=True) if np.isfinite(s)]
        np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], atol=1e-5)
        assert [y.tolist() for _, y in found] == [padded(y) for _, y in expected]


def test_hypotheses_end_once_within_their_limits_and_are_padded():
    tokens, scores = (np.asarray(x) for x in decode(tables(0), jnp.array(LIMITS), width=3))
    for b, limit in enumerate(LIMITS):
        assert (np.diff(scores[b][np.isfinite(scores[b])]) <= 0).all()
        for sequence in tokens[b][np.isfinite(scores[b])].tolist():
            size = sequence.index(EOS) + 1
            assert size <= limit
            assert sequence[size:] == [PAD] * (LENGTH - size)


def constant_step(probabilities):
    """A step that gives sentence b the distribution `probabilities[b, position]`."""
    logits = jnp.log(jnp.asarray(probabilities))

    def step(last, cache, position):
        here = logits[:, position][:, None]
        return jnp.broadcast_to(here, (*last.shape, VOCABULARY)), cache

    return step


def test_a_sentence_that_is_done_does_not_wait_for_the_others():
    """Greedy ends the first at once, though [3, eos], found later, would score higher."""
    nearly = [[0.0, 0.0, 0.51, 0.49], [0.0, 0.0, 0.98, 0.02], [0.0, 0.0, 0.98, 0.02]]
    slow = [[0.1, 0.0, 0.2, 0.7], [0.1, 0.0, 0.2, 0.7], [0.1, 0.0, 0.7, 0.2]]
    assert np.log(0.51) < naive.penalised(np.log(0.49 * 0.98), 2, alpha=1.0)

    @jax.jit
    def best(probabilities, limits):
        return beam_search(
            constant_step(probabilities),
            (),
            limits,
            length=3,
            width=1,
            length_penalty=1.0,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )

    tokens, scores = best(jnp.array([nearly, slow]), jnp.array([3, 3]))
    assert tokens[:, 0].tolist() == [[EOS, PAD, PAD], [3, 3, EOS]]
    np.testing.assert_allclose(scores[0, 0], np.log(0.51), atol=1e-5)


def test_length_penalty_by_hand():
    """[eos] has probability 0.3; [3, eos] has 0.7 * 0.4 = 0.28 but is longer."""
    probabilities = jnp.array([[[0.0, 0.0, 0.3, 0.7], [0.6, 0.0, 0.4, 0.0]]])

    @partial(jax.jit, static_argnums=0)
    def best(alpha):
        tokens, scores = beam_search(
            constant_step(probabilities),
            (),
            jnp.array([2]),
            length=2,
            width=2,
            length_penalty=alpha,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )
        return tokens[0], scores[0]

    tokens, scores = best(0.0)
    assert tokens.tolist() == [[EOS, PAD], [3, EOS]]
    np.testing.assert_allclose(scores, np.log([0.3, 0.28]), atol=1e-5)
    tokens, scores = best(1.0)  # lp(1) = 1, lp(2) = 7 / 6
    assert tokens.tolist() == [[3, EOS], [EOS, PAD]]
    np.testing.assert_allclose(scores, [np.log(0.28) * 6 / 7, np.log(0.3)], atol=1e-5)


@pytest.mark.parametrize("size, count", [(1, 3), (100, 4), (300, 2), (1000, 8), (1025, 1)])
def test_the_largest_are_those_of_top_k_and_ties_too(size, count):
    rng = np.random.default_rng(size)
    few = np.where(rng.random((3, size)) < 0.98, -np.inf, 1.0)
    x = np.concatenate([rng.normal(size=(3, size)), rng.integers(0, 4, (3, size)), few])
    found = jax.jit(partial(largest, count=count))(jnp.asarray(x, jnp.float32))
    order = np.argsort(-x.astype(np.float32), axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(found[1], order)
    np.testing.assert_array_equal(found[0], np.take_along_axis(x.astype(np.float32), order, -1))
