"""The ensemble: probabilities by enumeration, and equality with a single model."""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.beam_search import beam_search
from models.ensemble import Ensemble
from models.layers import param
from tasks.translation.decoding import cross_entropy
from tests.models.tiny import unoptimized_jit

PAD, BOS, EOS = 0, 1, 2
VOCABULARY, LENGTH = 5, 3


class Trigrams(nnx.Module):
    """Encoder-decoder that predicts a token from the two tokens before it."""

    samples_attention = False
    has_alignment = True

    def __init__(self, seed):
        table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))
        self.table = param(jnp.asarray(2 * table), (None, None))

    @property
    def output_embedding(self):
        return jnp.eye(VOCABULARY)

    def encode(self, source, key=None):
        return source, []

    def decode(self, target, memory, key=None):
        last = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
        before = jnp.pad(last[:, :-1], ((0, 0), (1, 0)))
        return self.logits(before, last), None

    def logits(self, before, last):
        return self.table[...][last] + self.table[...].T[before]

    def alignment(self, source, target):
        return jnp.broadcast_to(self.table[0, :3], (1, target.shape[1], 3))

    def init_cache(self, memory, beams, length):
        return jnp.zeros((len(memory), beams), jnp.int32)

    def decode_step(self, tokens, cache, memory, position):
        return self.logits(cache, tokens), tokens


def search(model, width):
    memory, _ = model.encode(jnp.zeros((1, 2), jnp.int32))
    cache = model.init_cache(memory, width, LENGTH)
    step = lambda last, cache, position: model.decode_step(last, cache, memory, position)
    options = {"length_penalty": 0.0, "pad": PAD, "bos": BOS, "eos": EOS}
    limits = jnp.array([LENGTH])
    return beam_search(step, cache, limits, length=LENGTH, width=width, **options)


def sequences():
    """All sequences of at most 3 tokens that end in EOS."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    for length in range(LENGTH):
        for tokens in itertools.product(others, repeat=length):
            yield (*tokens, EOS)


def probability(models, sequence):
    """Product of the mean probabilities of each token."""
    product, before, last = 1.0, 0, BOS
    for token in sequence:
        logits = np.stack([np.asarray(model.logits(before, last), float) for model in models])
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        product *= p.mean(0)[token]
        before, last = last, token
    return product


def test_beam_search_finds_the_best_sequences_of_an_enumeration():
    """A beam of all prefixes is exhaustive up to the last token, which must be EOS."""
    models = [Trigrams(8), Trigrams(9)]
    tokens, scores = search_jit(Ensemble(models), 16)
    score = {s: np.log(probability(models, s)) for s in sequences()}
    ranked = sorted(score, key=score.get, reverse=True)
    for n, expected in enumerate(ranked[:5]):
        found = tuple(map(int, tokens[0, n]))
        assert found == (*expected, *[PAD] * (LENGTH - len(expected)))
        np.testing.assert_allclose(scores[0, n], score[expected], rtol=1e-5)
    for model in models:
        assert ranked[0] != max(score, key=lambda s: probability([model], s)), "not an average"


def search_jit(model, width):
    graphdef, params = nnx.split(model)
    return unoptimized_jit(lambda params: search(nnx.merge(graphdef, params), width))(params)


def test_ensemble_of_a_model_with_itself_is_the_model():
    for width in (1, 3):
        tokens, scores = search_jit(Trigrams(1), width)
        twice = search_jit(Ensemble([Trigrams(1), Trigrams(1)]), width)
        np.testing.assert_array_equal(twice[0], tokens)
        np.testing.assert_allclose(twice[1], scores, rtol=1e-6)


def test_likelihood_is_that_of_the_mean_probability():
    models = [Trigrams(1), Trigrams(2)]
    model = Ensemble(models)
    target = jnp.array([[3, 4, EOS], [4, EOS, PAD]])
    source = jnp.zeros((2, 2), jnp.int32)
    states, _ = model.decode(target, model.encode(source)[0])
    nll, tokens = cross_entropy(model, states, target, smoothing=0.0)
    expected = -sum(np.log(probability(models, s)) for s in ((3, 4, EOS), (4, EOS)))
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    assert tokens == 5


def test_alignment_is_the_mean_over_members():
    models = [Trigrams(1), Trigrams(2)]
    found = Ensemble(models).alignment(jnp.zeros((1, 3), int), jnp.zeros((1, 2), int))
    expected = np.mean([model.table[0, :3] for model in models], axis=0)
    np.testing.assert_allclose(found[0, 1], expected, rtol=1e-6)
