"""Beam search against greedy decoding, exhaustive search and a plain Python implementation."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.beam_search import beam_search, chunked_top_k
from tests import naive
from tests.models.tiny import unoptimized_jit

PAD, BOS, EOS, VOCABULARY = 0, 1, 2, 4
B, LENGTH, ALPHA = 4, 4, 0.6
LIMITS = (4, 1, 3, 2)
search = partial(beam_search, pad=PAD, bos=BOS, eos=EOS)


def sample_tables(seed):
    """Sample logits by sentence, position and last token."""
    return 2 * np.random.default_rng(seed).normal(size=(B, LENGTH, VOCABULARY, VOCABULARY))


def step(table, last, cache, position):
    """Compute logits that depend on the whole prefix through the cache.

    The cache holds the sum of the tokens before the last token, and a buffer of all tokens.
    """
    history = cache["history"].at[:, :, position].set(last)
    prefix = cache["sum"] + (history * jnp.arange(1, LENGTH + 1)).sum(-1)
    logits = table[jnp.arange(len(last))[:, None], position, last]
    logits = logits + jnp.sin(prefix[..., None] * jnp.arange(1.0, VOCABULARY + 1))
    return logits, {"sum": cache["sum"] + last, "history": history}


def init_cache(batch, width):
    history = jnp.zeros((batch, width, LENGTH), jnp.int32)
    return {"sum": jnp.zeros((batch, width), jnp.int32), "history": history}


def next_log_probs(table, prefix):
    """Compute the log-probabilities of `step` for one sentence, without a cache, in float64."""
    tokens = (BOS, *prefix)
    total = sum(tokens[:-1]) + sum((i + 1) * token for i, token in enumerate(tokens))
    logits = table[len(prefix), tokens[-1]] + np.sin(total * np.arange(1, VOCABULARY + 1))
    return logits - np.log(np.exp(logits).sum())


def normalized_score(table, sequence, alpha=ALPHA):
    log_prob = sum(next_log_probs(table, sequence[:n])[token] for n, token in enumerate(sequence))
    return naive.length_normalized(log_prob, len(sequence), alpha)


@partial(unoptimized_jit, static_argnames="width")
def _decode(tables, width):
    cache, limits = init_cache(B, width), jnp.array(LIMITS)
    return search(
        partial(step, tables), cache, limits, length=LENGTH, width=width, length_penalty=ALPHA
    )


def decode(tables, width):
    return jax.device_get(_decode(tables, width=width))


def padded(sequence):
    return [*sequence, *[PAD] * (LENGTH - len(sequence))]


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_greedy_decoding(seed):
    tables = sample_tables(seed)
    tokens, scores = decode(tables, width=1)
    for b, table in enumerate(tables):
        expected = naive.greedy(partial(next_log_probs, table), LIMITS[b], eos=EOS)
        assert tokens[b, 0].tolist() == padded(expected)
        np.testing.assert_allclose(scores[b, 0], normalized_score(table, expected), atol=1e-5)


def all_sequences(limit):
    """Yield every sequence that ends within the limit: 1 + 3 + 9 + 27 of up to four tokens."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    for size in range(limit):
        for sequence in itertools.product(others, repeat=size):
            yield (*sequence, EOS)


@pytest.mark.parametrize("seed", range(5))
def test_wide_beam_is_exhaustive_search(seed):
    tables = sample_tables(seed)
    tokens, scores = decode(tables, width=40)
    for b, table in enumerate(tables):
        ranked = sorted(
            ((normalized_score(table, y), y) for y in all_sequences(LIMITS[b])), reverse=True
        )
        expected_scores = [score for score, _ in ranked]
        np.testing.assert_allclose(scores[b, : len(ranked)], expected_scores, atol=1e-5)
        assert tokens[b, : len(ranked)].tolist() == [padded(y) for _, y in ranked]
        assert np.isneginf(scores[b, len(ranked) :]).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", [2, 3])
def test_batched_search_equals_plain_python_per_sentence(seed, width):
    tables = sample_tables(seed)
    tokens, scores = decode(tables, width)
    for b, table in enumerate(tables):
        expected = naive.beam_search(
            partial(next_log_probs, table), LIMITS[b], width=width, alpha=ALPHA, eos=EOS
        )
        found = [(s, y) for s, y in zip(scores[b], tokens[b], strict=True) if np.isfinite(s)]
        np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], atol=1e-5)
        assert [y.tolist() for _, y in found] == [padded(y) for _, y in expected]


def test_hypotheses_end_within_their_limits_and_are_padded():
    tokens, scores = decode(sample_tables(0), width=3)
    for b, limit in enumerate(LIMITS):
        assert (np.diff(scores[b][np.isfinite(scores[b])]) <= 0).all()
        for sequence in tokens[b][np.isfinite(scores[b])].tolist():
            size = sequence.index(EOS) + 1
            assert size <= limit
            assert sequence[size:] == [PAD] * (LENGTH - size)


def constant_step(probabilities):
    """Create a step whose distribution for sentence b is `probabilities[b, position]`."""
    logits = jnp.log(jnp.asarray(probabilities))

    def step(last, cache, position):
        return jnp.broadcast_to(logits[:, position][:, None], (*last.shape, VOCABULARY)), cache

    return step


def test_finished_sentence_is_unaffected_by_longer_sentences():
    """Greedy decoding ends the first sentence immediately, although [3, EOS] has a larger score."""
    short = [[0.0, 0.0, 0.51, 0.49], [0.0, 0.0, 0.98, 0.02], [0.0, 0.0, 0.98, 0.02]]
    long = [[0.1, 0.0, 0.2, 0.7], [0.1, 0.0, 0.2, 0.7], [0.1, 0.0, 0.7, 0.2]]
    assert np.log(0.51) < naive.length_normalized(np.log(0.49 * 0.98), 2, alpha=1.0)

    @unoptimized_jit
    def greedy(probabilities):
        step, limits = constant_step(probabilities), jnp.array([3, 3])
        return search(step, (), limits, length=3, width=1, length_penalty=1.0)

    tokens, scores = greedy(jnp.array([short, long]))
    assert tokens[:, 0].tolist() == [[EOS, PAD, PAD], [3, 3, EOS]]
    np.testing.assert_allclose(scores[0, 0], np.log(0.51), atol=1e-5)


def test_length_penalty_changes_the_order():
    """[EOS] has probability 0.3; [3, EOS] has 0.7 * 0.4 = 0.28 but is longer."""
    probabilities = jnp.array([[[0.0, 0.0, 0.3, 0.7], [0.6, 0.0, 0.4, 0.0]]])

    @unoptimized_jit
    def search_with_and_without_penalty():
        step, limits = constant_step(probabilities), jnp.array([2])
        return [
            search(step, (), limits, length=2, width=2, length_penalty=alpha)
            for alpha in (0.0, 1.0)
        ]

    (tokens, scores), (penalized_tokens, penalized_scores) = search_with_and_without_penalty()
    assert tokens[0].tolist() == [[EOS, PAD], [3, EOS]]
    np.testing.assert_allclose(scores[0], np.log([0.3, 0.28]), atol=1e-5)
    # lp(1) = 1 and lp(2) = 7 / 6.
    assert penalized_tokens[0].tolist() == [[3, EOS], [EOS, PAD]]
    expected = [np.log(0.28) * 6 / 7, np.log(0.3)]
    np.testing.assert_allclose(penalized_scores[0], expected, atol=1e-5)


@pytest.mark.parametrize("size, count", [(1, 3), (100, 4), (300, 2), (1000, 8), (1025, 1)])
def test_chunked_top_k_equals_a_stable_sort(size, count):
    rng = np.random.default_rng(size)
    mostly_masked = np.where(rng.random((3, size)) < 0.98, -np.inf, 1.0)
    ties = rng.integers(0, 4, (3, size))
    x = np.concatenate([rng.normal(size=(3, size)), ties, mostly_masked]).astype(np.float32)
    values, indices = unoptimized_jit(partial(chunked_top_k, count=count))(x)
    order = np.argsort(-x, axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1))
