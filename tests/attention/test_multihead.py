"""Multi-head attention against a loop over heads; caches; implementations against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention import KeyValues, attend_heads, extend, merge_heads, project_heads
from tests import naive
from tests.models.tiny import unoptimized_jit

B, H, T, S, D, K, V = 2, 3, 4, 5, 7, 4, 6


def normal(seed, *shape, dtype=jnp.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def head_inputs(dtype=jnp.float32):
    memory = KeyValues(normal(1, B, H, S, K, dtype=dtype), normal(2, B, H, S, V, dtype=dtype))
    return normal(0, B, H, T, K, dtype=dtype), memory


PADDING = (np.arange(S) < np.array([[S], [3]]))[:, None, None]
jit_extend = unoptimized_jit(extend)
jit_attend_heads = unoptimized_jit(attend_heads, static_argnames=("causal", "implementation"))


def test_project_heads_equals_a_projection_per_head():
    x, kernel, bias = normal(0, B, S, D), normal(1, D, H, K), normal(2, H, K)
    actual = jax.device_get(unoptimized_jit(project_heads)(x, kernel, bias))
    assert actual.shape == (B, H, S, K)
    for h in range(H):
        np.testing.assert_allclose(actual[:, h], x @ kernel[:, h] + bias[h], atol=1e-5)


def test_merge_heads_equals_a_sum_of_projections():
    contexts, kernel, bias = normal(0, B, H, T, V), normal(1, H, V, D), normal(2, D)
    expected = np.zeros((B, T, D)) + bias
    for h in range(H):
        expected += contexts[:, h] @ kernel[h]
    actual = unoptimized_jit(merge_heads)(contexts, kernel, bias)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("position", [0, 2, 3])
def test_extend_writes_only_the_new_positions(position):
    cache, new = head_inputs()[1], KeyValues(normal(3, B, H, 2, K), normal(4, B, H, 2, V))
    for old, update, actual in zip(cache, new, jit_extend(cache, new, position), strict=True):
        expected = np.array(old)
        expected[:, :, position : position + 2] = update
        np.testing.assert_array_equal(actual, expected)


def test_extend_preserves_the_dtype_of_the_cache():
    cache, new = head_inputs(jnp.bfloat16)[1], head_inputs()[1]
    assert {x.dtype for x in jax.eval_shape(extend, cache, new, 0)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("implementation", ["xla", "blockwise"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING])
def test_implementation_equals_loops(implementation, causal, mask):
    queries, memory = head_inputs()
    contexts, weights = jax.device_get(
        jit_attend_heads(queries, memory, mask=mask, causal=causal, implementation=implementation)
    )
    keys, values = memory
    allowed = np.ones((B, H, T, S), bool) if mask is None else np.broadcast_to(mask, (B, H, T, S))
    if causal:
        allowed = allowed & np.tri(T, S, dtype=bool)
    for b, h in np.ndindex(B, H):
        expected = naive.attend(queries[b, h], keys[b, h], values[b, h], allowed[b, h])
        np.testing.assert_allclose(contexts[b, h], expected, atol=1e-5)
        if weights is not None:
            logits = naive.scaled_dot(queries[b, h], keys[b, h])
            np.testing.assert_allclose(weights[b, h], naive.soft(logits, allowed[b, h]), atol=1e-5)
    assert (weights is None) == (implementation == "blockwise")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="the cuDNN kernel needs an NVIDIA GPU")
@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_equals_xla(causal):
    queries, memory, mask = inputs_with_a_masked_sequence(jnp.bfloat16)
    run = jax.jit(attend_heads, static_argnames=("causal", "implementation"))
    contexts = [
        jax.device_get(run(queries, memory, mask=mask, causal=causal, implementation=name)[0])
        for name in ("xla", "cudnn")
    ]
    np.testing.assert_allclose(*(x.astype(np.float32) for x in contexts), atol=0.03)


@pytest.mark.parametrize("causal", [False, True])
def test_fused_kernel_equals_xla(causal, monkeypatch):
    """JAX's XLA kernel replaces cuDNN's; it returns the mean of the values for a masked query."""
    kernel = jax.nn.dot_product_attention
    in_xla = lambda *args, **options: kernel(*args, **(options | {"implementation": "xla"}))
    monkeypatch.setattr(jax.nn, "dot_product_attention", in_xla)
    queries, memory, mask = inputs_with_a_masked_sequence(jnp.float32)
    expected, actual = (
        attend_heads(queries, memory, mask=mask, causal=causal, implementation=name)[0]
        for name in ("xla", "cudnn")
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert not actual[2].any()


def inputs_with_a_masked_sequence(dtype):
    shape = (3, 4, 64, 64)
    queries, keys, values = (jnp.asarray(normal(n, *shape, dtype=dtype)) for n in range(3))
    mask = (jnp.arange(64) < jnp.array([[64], [40], [0]]))[:, None, None]
    return queries, KeyValues(keys, values), mask


@pytest.mark.usefixtures("disable_type_checks")
def test_unknown_implementation_is_rejected():
    with pytest.raises(ValueError, match="'flash' is unknown; use 'xla', 'cudnn' or 'blockwise'"):
        attend_heads(*head_inputs(), implementation="flash")
