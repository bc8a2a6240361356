"""Blockwise attention against `attention.attend`: values, gradients and memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention import additive, attend, blockwise, content, general, masks, scaled_dot
from tests.models.tiny import unoptimized_jit

B, K, V = 2, 4, 3


def biased(queries, keys, params):
    """User-defined score with a pytree of parameters."""
    hidden = jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :] + params["bias"])
    return jnp.einsum("...tsk,k->...ts", hidden, params["v"])


PARAM_SHAPES = {biased: {"v": (K,), "bias": (K,)}, additive: (K,), general: (K, K), content: (B,)}


def normal(seed, *shape, dtype=jnp.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def random_inputs(t, s, score=scaled_dot, dtype=jnp.float32):
    arrays = (normal(i, B, n, w, dtype=dtype) for i, n, w in [(0, t, K), (1, s, K), (2, s, V)])
    shapes = PARAM_SHAPES.get(score)
    is_shape = lambda x: isinstance(x, tuple)
    params = jax.tree.map(lambda shape: normal(3, *shape), shapes, is_leaf=is_shape)
    return *arrays, params


def random_mask(kind, t, s, seed=0):
    """Mask of each broadcastable shape; all but `None` contain fully masked queries."""
    rng = np.random.default_rng(seed)
    full = rng.random((B, t, s)) < 0.6
    full[:, min(1, t - 1)] = False
    valid = np.arange(s) < np.array([rng.integers(1, s + 1), 0])[:, None]
    ids = masks.SegmentIds(*(rng.integers(4, size=(B, n), dtype=np.int32) for n in (t, s)))
    return {
        "none": None,
        "padding": valid[:, None],
        "queries": rng.random((t, 1)) < 0.5,
        "full": full,
        "segments": masks.SegmentIds(*(np.sort(x, -1) for x in ids)),
        "segments in any order": ids,
    }[kind]


def weighted_sum(contexts):
    """Scalar with a different gradient for each element."""
    return jnp.sum(jnp.cos(jnp.arange(contexts.size).reshape(contexts.shape)) * contexts)


def plain(queries, keys, values, params, mask, score, causal):
    future = masks.causal(queries.shape[-2], keys.shape[-2]) if causal else None
    mask = masks.combine(masks.dense(mask), future)
    return attend(queries, keys, values, score=score, params=params, mask=mask)[0]


def blocks(queries, keys, values, params, mask, score, causal, block=512):
    return blockwise.attend(
        queries, keys, values, score=score, params=params, mask=mask, causal=causal, block=block
    )


def with_gradients(function, arguments, mask, **options):
    """Contexts, and their gradients with respect to queries, keys, values and score parameters."""
    contexts, contexts_vjp = jax.vjp(lambda *x: function(*x, mask, **options), *arguments)
    return contexts, contexts_vjp(jax.grad(weighted_sum)(contexts))


def assert_equals_plain(t, s, block, causal, kind, score, seeds=1):
    """Compare values and gradients for several masks."""

    @unoptimized_jit
    def run(arguments, mask):
        options = {"score": score, "causal": causal}
        actual = with_gradients(blocks, arguments, mask, block=block, **options)
        return actual, with_gradients(plain, arguments, mask, **options)

    for seed in range(seeds):
        actual, expected = run(random_inputs(t, s, score), random_mask(kind, t, s, seed))
        assert jax.tree.structure(actual) == jax.tree.structure(expected)
        for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-5)
    return actual


@pytest.mark.parametrize(
    "t, s, block, causal, kind, score",
    [
        (1, 1, 1, True, "full", scaled_dot),
        (1, 9, 4, False, "padding", biased),
        (9, 1, 2, True, "padding", scaled_dot),
        (7, 4, 5, True, "full", biased),
        (4, 8, 4, False, "queries", biased),
        # The last block of keys is ragged, and the mask has no key axis.
        (3, 5, 2, False, "none", scaled_dot),
        (3, 5, 2, False, "queries", scaled_dot),
        (7, 10, 3, False, "segments", biased),
        (9, 9, 2, True, "segments", scaled_dot),
        (9, 7, 2, False, "segments in any order", scaled_dot),
    ],
)
def test_values_and_gradients_equal_plain_attention(t, s, block, causal, kind, score):
    assert_equals_plain(t, s, block, causal, kind, score, seeds=3)


@pytest.mark.parametrize("score", [scaled_dot, *PARAM_SHAPES])
def test_each_score_equals_plain_attention_with_ragged_blocks_and_causal_mask(score):
    contexts, _ = assert_equals_plain(11, 13, 4, True, "full", score)
    assert not np.asarray(contexts)[:, 1].any()


def test_large_logits_do_not_overflow():
    """The largest logit of a row is in its last block and exceeds the first by 2000."""
    keys = np.linspace(0, 2000, 6)[None, :, None]
    queries, values = np.array([[[1.0], [-1.0]]]), normal(0, 1, 6, V)
    contexts = unoptimized_jit(partial(blockwise.attend, block=2))(queries, keys, values)
    np.testing.assert_allclose(contexts[0], values[0, [5, 0]], atol=1e-6)


def test_bfloat16_accumulates_in_float32():
    """The error relative to float32 corresponds to one rounding, instead of one per block."""
    inputs = random_inputs(64, 64, dtype=jnp.bfloat16)
    in_float32 = (*(x.astype(np.float32) for x in inputs[:3]), None)
    run = unoptimized_jit(
        lambda x: with_gradients(blocks, x, None, score=scaled_dot, causal=False, block=1)
    )
    contexts, gradients = run(inputs)
    exact_contexts, exact_gradients = run(in_float32)
    for actual, exact in zip(
        (contexts, *gradients[:3]), (exact_contexts, *exact_gradients[:3]), strict=True
    ):
        assert actual.dtype == jnp.bfloat16
        error = np.linalg.norm(np.asarray(actual, np.float32) - exact) / np.linalg.norm(exact)
        assert error < 0.004  # one rounding causes 0.001, 64 roundings about 0.01


def test_heads_and_vmap_are_batch_axes():
    q, k, v = normal(0, 2, 3, 5, K), normal(1, 2, 3, 7, K), normal(2, 2, 3, 7, V)
    mask = (np.arange(7) < np.array([[7], [4]]))[:, None]

    @unoptimized_jit
    def run(q, k, v, mask):
        function = lambda q, k, v, mask: blockwise.attend(q, k, v, mask=mask, block=3)
        heads = mask[:, None]  # [B, 1, 1, S]
        return (
            attend(q, k, v, mask=heads)[0],
            function(q, k, v, heads),
            jax.vmap(function)(q, k, v, mask),
        )

    expected, with_heads, vmapped = run(q, k, v, mask)
    np.testing.assert_allclose(with_heads, expected, atol=1e-5)
    np.testing.assert_allclose(vmapped, expected, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_other_segments_are_not_read(causal):
    """Plain attention multiplies every value by a weight, and 0 times NaN is NaN."""
    ids = np.array([[1, 1, 2, 2, 3, 3, 4, 0], [1, 1, 1, 1, 2, 2, 2, 2]], np.int32)
    queries, keys, values, params = random_inputs(8, 8)
    values_with_nan = np.where(np.arange(8)[:, None] < 4, np.nan, values)

    @unoptimized_jit
    def run(values):
        mask, options = masks.SegmentIds(ids, ids), {"score": scaled_dot, "causal": causal}
        contexts, (d_queries, *_) = with_gradients(
            blocks, (queries, keys, values, params), mask, block=2, **options
        )
        return contexts[:, 4:], d_queries[:, 4:]

    for actual, expected in zip(run(values_with_nan), run(values), strict=True):
        np.testing.assert_array_equal(actual, expected)


def temporary_bytes(function, *shapes):
    """Bytes of temporary memory of the compiled gradients, which are not executed."""
    argnums = tuple(range(len(shapes)))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    loss = lambda *x: weighted_sum(function(*x))
    compiled = jax.jit(jax.grad(loss, argnums)).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("kind", ["padding", "segments"])
def test_memory_is_linear_in_the_length(kind):
    """The attention is causal and padded, and its gradients are included."""

    def causal(function):
        def run(q, k, v):
            valid = jnp.arange(q.shape[-2]) < q.shape[-2] - 1
            ids = (jnp.arange(q.shape[-2]) // 50 + 1) * valid
            mask = masks.padding(valid) if kind == "padding" else masks.SegmentIds(ids, ids)
            return function(q, k, v, None, mask, scaled_dot, True)

        return run

    array = (1, 2, 8192, 32)
    plain_bytes, block_bytes = (temporary_bytes(causal(x), *[array] * 3) for x in (plain, blocks))
    assert plain_bytes > 2 * 8192 * 8192 * 4  # the [T, S] weights of two heads
    assert block_bytes < plain_bytes / 10
    assert block_bytes < 2.1 * temporary_bytes(causal(blocks), *[(1, 2, 4096, 32)] * 3)


def test_additive_attention_does_not_store_its_hidden_layer():
    shapes = [(1, 4096, 512)] * 3 + [(512,)]
    run = lambda function: lambda q, k, values, v: function(q, k, values, v, None, additive, False)
    plain_bytes = temporary_bytes(run(plain), *shapes)
    assert plain_bytes > 4096 * 4096 * 512 * 4  # the [T, S, A] hidden layer
    assert temporary_bytes(run(blocks), *shapes) < plain_bytes / 50
