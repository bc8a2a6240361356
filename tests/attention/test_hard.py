"""Hard alignment: what it draws, and that its gradients are those that they are said to be."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from attention import hard, hardest, score_function, soft, straight_through
from tests import naive

LOGITS = jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]))
MASK = jnp.array([[True, False, True], [False, False, False]])


def test_draws_have_their_probabilities():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.jit(jax.vmap(lambda key: hard(LOGITS, key).weights))(keys)
    assert jnp.all((drawn == 0) | (drawn == 1)) and jnp.all(drawn.sum(-1) == 1)
    # Four standard deviations of a share of 4,000.
    np.testing.assert_allclose(drawn.mean(0), jnp.exp(LOGITS), atol=4 * 0.5 / 4000**0.5)


def test_log_probability_and_entropy_are_those_of_the_softmax():
    choice = jax.jit(hard)(LOGITS, jax.random.key(1))
    p = np.exp(np.asarray(LOGITS, np.float64))
    drawn = np.asarray(choice.weights, bool)
    np.testing.assert_allclose(choice.log_prob, np.log(p[drawn]), rtol=1e-5)
    np.testing.assert_allclose(choice.entropy, -(p * np.log(p)).sum(-1), rtol=1e-5)


def test_masked_keys_are_never_drawn_and_rows_of_them_are_zero():
    for seed in range(20):
        choice = hard(LOGITS, jax.random.key(seed), MASK)
        assert choice.weights[0].sum() == 1 and choice.weights[0, 1] == 0
        assert not any(part[1].any() for part in choice)
        assert not straight_through(LOGITS, jax.random.key(seed), MASK)[1].any()
    assert not hardest(LOGITS, MASK)[1].any()

    def loss(logits):
        choice = hard(logits, jax.random.key(0), MASK)
        return jnp.sum(choice.log_prob + choice.entropy)

    gradient = jax.grad(loss)(LOGITS)
    assert jnp.isfinite(gradient).all() and not gradient[1].any() and gradient[0, 1] == 0


def test_the_hardest_is_the_first_of_the_highest():
    weights = hardest(jnp.array([[1.0, 3.0, 3.0], [-2.0, -1.0, -5.0]]))
    np.testing.assert_array_equal(weights, [[0, 1, 0], [0, 1, 0]])


def test_the_score_function_is_unbiased_whatever_the_baseline():
    """All nine outcomes of two draws, weighted by their probabilities: no sampling in this test.

    The second draw's distribution depends on the first, and the reward on both.
    """
    rng = np.random.default_rng(0)
    first, rest = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(3, 3)))
    reward, baseline = jnp.asarray(rng.normal(size=(3, 3))), jnp.asarray(rng.normal(size=2))

    def log_probs(weights, i, j):
        first, rest = weights
        return jnp.stack([jax.nn.log_softmax(first)[i], jax.nn.log_softmax(rest[i])[j]])

    def expected_reward(weights):
        pairs = itertools.product(range(3), repeat=2)
        return sum(jnp.exp(log_probs(weights, i, j).sum()) * reward[i, j] for i, j in pairs)

    def surrogate(weights, i, j):
        return score_function(log_probs(weights, i, j), reward[i, j], baseline).sum()

    weights = (first, rest)
    exact = jax.grad(expected_reward)(weights)
    mean = jax.tree.map(jnp.zeros_like, weights)
    for i, j in itertools.product(range(3), repeat=2):
        p = jnp.exp(log_probs(weights, i, j).sum())
        estimate = jax.grad(surrogate)(weights, i, j)
        mean = jax.tree.map(lambda m, e, p=p: m - p * e, mean, estimate)  # a loss falls
    for one, other in zip(mean, exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_straight_through_reads_one_key_and_learns_as_if_softly():
    key, temperature = jax.random.key(2), 0.7
    values = jnp.array([[1.0], [10.0], [100.0]])
    noise = jax.random.gumbel(key, LOGITS.shape)

    def relaxed(logits):
        return jnp.sum(soft((logits + noise) / temperature) @ values)

    def drawn(logits):
        return jnp.sum(straight_through(logits, key, None, temperature) @ values)

    weights = np.asarray(straight_through(LOGITS, key, None, temperature))
    np.testing.assert_allclose(weights, hardest(LOGITS + noise), atol=1e-6)
    np.testing.assert_allclose(jax.grad(drawn)(LOGITS), jax.grad(relaxed)(LOGITS), rtol=1e-5)
    differences = naive.gradient(lambda x: float(relaxed(jnp.asarray(x))), LOGITS, step=1e-3)
    np.testing.assert_allclose(jax.grad(drawn)(LOGITS), differences, rtol=0.02, atol=0.02)
