"""Heads against a loop over heads; caches; the implementations against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention import KeyValues, attend_heads, extend, masks, merge_heads, split_heads
from tests import naive

B, H, T, S, D, K, V = 2, 3, 4, 5, 7, 4, 6


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def heads_inputs(dtype=jnp.float32):
    memory = KeyValues(normal(1, B, H, S, K, dtype=dtype), normal(2, B, H, S, V, dtype=dtype))
    return normal(0, B, H, T, K, dtype=dtype), memory


PADDING = masks.padding(jnp.arange(S) < jnp.array([[S], [3]]))[:, None]


def test_split_projects_each_head_by_itself():
    x, kernel, bias = normal(0, B, S, D), normal(1, D, H, K), normal(2, H, K)
    found = np.asarray(jax.jit(split_heads)(x, kernel, bias))
    assert found.shape == (B, H, S, K)
    x, kernel, bias = (np.asarray(array) for array in (x, kernel, bias))
    for h in range(H):
        alone = x @ kernel[:, h] + bias[h]
        np.testing.assert_allclose(found[:, h], alone, atol=1e-5)


def test_merge_sums_what_each_head_projects_back():
    contexts, kernel, bias = normal(0, B, H, T, V), normal(1, H, V, D), normal(2, D)
    expected = np.zeros((B, T, D)) + np.asarray(bias)
    for h in range(H):
        expected += np.asarray(contexts)[:, h] @ np.asarray(kernel)[h]
    found = jax.jit(merge_heads)(contexts, kernel, bias)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("position", [0, 2, 3])
def test_extend_writes_at_its_position_and_nowhere_else(position):
    cache, new = heads_inputs()[1], KeyValues(normal(3, B, H, 2, K), normal(4, B, H, 2, V))
    for old, fresh, found in zip(cache, new, jax.jit(extend)(cache, new, position), strict=True):
        expected = np.array(old)
        expected[:, :, position : position + 2] = fresh
        np.testing.assert_array_equal(found, expected)


def test_extend_keeps_the_dtype_of_the_cache():
    cache, new = heads_inputs(jnp.bfloat16)[1], heads_inputs()[1]
    assert {x.dtype for x in jax.eval_shape(extend, cache, new, 0)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("implementation", ["xla", "blockwise"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING])
def test_implementations_equal_a_loop_over_sentences_and_heads(implementation, causal, mask):
    queries, memory = heads_inputs()
    attend = jax.jit(attend_heads, static_argnames=("causal", "implementation"))
    contexts, weights = jax.device_get(
        attend(queries, memory, mask=mask, causal=causal, implementation=implementation)
    )
    queries, (keys, values) = jax.device_get((queries, memory))
    seen = np.ones((B, H, T, S), bool) if mask is None else np.broadcast_to(mask, (B, H, T, S))
    if causal:
        seen = seen & np.tri(T, S, dtype=bool)
    for b, h in np.ndindex(B, H):
        expected = naive.attend(queries[b, h], keys[b, h], values[b, h], seen[b, h])
        np.testing.assert_allclose(contexts[b, h], expected, atol=1e-5)
        if weights is not None:
            logits = naive.scaled_dot(queries[b, h], keys[b, h])
            np.testing.assert_allclose(weights[b, h], naive.soft(logits, seen[b, h]), atol=1e-5)
    assert (weights is None) == (implementation == "blockwise")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="the fused kernel needs an NVIDIA GPU")
@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_equals_the_plain_form(causal):
    shape, dtype = (2, 4, 64, 64), jnp.bfloat16
    queries = normal(0, *shape, dtype=dtype)
    memory = KeyValues(normal(1, *shape, dtype=dtype), normal(2, *shape, dtype=dtype))
    mask = masks.padding(jnp.arange(64) < jnp.array([[64], [40]]))[:, None]
    contexts = [
        attend_heads(queries, memory, mask=mask, causal=causal, implementation=name)[0]
        for name in ("xla", "cudnn")
    ]
    np.testing.assert_allclose(*(x.astype(jnp.float32) for x in contexts), atol=0.03)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.usefixtures("unchecked")
def test_an_unknown_implementation_is_a_sentence():
    with pytest.raises(ValueError, match="'flash' is unknown; use 'xla', 'cudnn' or 'blockwise'"):
        attend_heads(*heads_inputs(), implementation="flash")
