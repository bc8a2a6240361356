"""The memory-linear form against the plain one: values, gradients, and what it needs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attention import (
    additive,
    attend,
    blockwise,
    content,
    dot,
    general,
    location,
    masks,
    scaled_dot,
)

B, K, V = 2, 4, 3


def biased(queries, keys, params):
    """A score of nobody's, with a pytree of weights."""
    mixed = queries[..., :, None, :] + keys[..., None, :, :] + params["bias"]
    return jnp.einsum("...tsk,k->...ts", jnp.tanh(mixed), params["v"])


PARAMS = {biased: {"v": (K,), "bias": (K,)}, additive: (K,), general: (K, K), content: ()}
SCORES = (scaled_dot, dot, location, *PARAMS)


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def inputs(t, s, score=scaled_dot, dtype=jnp.float32):
    arrays = (normal(i, B, n, w, dtype=dtype) for i, n, w in [(0, t, K), (1, s, K), (2, s, V)])
    shapes = PARAMS.get(score)
    is_shape = lambda x: isinstance(x, tuple)
    params = jax.tree.map(lambda shape: normal(3, *shape), shapes, is_leaf=is_shape)
    return *arrays, params


def draw_mask(kind, t, s, seed=0):
    """Masks of every form; each but the first leaves some query of the second row no key."""
    rng = np.random.default_rng(seed)
    full = rng.random((B, t, s)) < 0.6
    full[:, min(1, t - 1)] = False
    valid = np.arange(s) < np.array([rng.integers(1, s + 1), 0])[:, None]
    forms = {"none": None, "padding": valid[:, None], "rows": rng.random((t, 1)) < 0.5}
    return forms.get(kind, full)


def weigh(contexts):
    """A scalar that depends on each context in another way."""
    return jnp.sum(jnp.cos(jnp.arange(contexts.size).reshape(contexts.shape)) * contexts)


def plain(queries, keys, values, params, mask, score, causal):
    future = masks.causal(queries.shape[-2], keys.shape[-2]) if causal else None
    mask = masks.combine(mask, future)
    return attend(queries, keys, values, score=score, params=params, mask=mask)[0]


def blocks(queries, keys, values, params, mask, score, causal, block=512):
    return blockwise.attend(
        queries, keys, values, score=score, params=params, mask=mask, causal=causal, block=block
    )


# Compiling is what these tests spend their time on; its effort changes no result.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def with_gradients(form, **static):
    """`form` that also gives the gradients by queries, keys, values and the score's weights."""

    @quick_jit
    def run(arguments, mask):
        contexts, pull = jax.vjp(lambda *x: form(*x, mask, **static), *arguments)
        return contexts, pull(jax.grad(weigh)(contexts))

    return run


def assert_close(found, expected, tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    t=st.integers(1, 9),
    s=st.integers(1, 9),
    block=st.integers(1, 5),
    causal=st.booleans(),
    kind=st.sampled_from(["none", "padding", "rows", "full"]),
    score=st.sampled_from([scaled_dot, biased]),
)
# The last block of keys is ragged, and no mask names them.
@example(t=3, s=5, block=2, causal=False, kind="none", score=scaled_dot)
@example(t=3, s=5, block=2, causal=False, kind="rows", score=scaled_dot)
def test_values_and_gradients_equal_the_plain_form(t, s, block, causal, kind, score):
    expected = with_gradients(plain, score=score, causal=causal)
    found = with_gradients(blocks, score=score, causal=causal, block=block)
    for seed in range(3):
        case = (inputs(t, s, score), draw_mask(kind, t, s, seed))
        assert_close(found(*case), expected(*case), 1e-5)


@pytest.mark.parametrize("score", SCORES)
def test_ragged_blocks_with_everything_at_once(score):
    """T and S of no common measure, several blocks each way, causal, rows that see nothing."""
    case = (inputs(11, 13, score), draw_mask("full", 11, 13))
    expected = with_gradients(plain, score=score, causal=True)(*case)
    found = with_gradients(blocks, score=score, causal=True, block=4)(*case)
    assert_close(found, expected, 1e-5)
    assert not found[0][:, 1].any()


def test_large_logits_do_not_overflow():
    """The largest logit of a row comes in its last block, 2000 above the first."""
    keys = jnp.linspace(0, 2000, 6)[None, :, None]
    queries, values = jnp.array([[[1.0], [-1.0]]]), normal(0, 1, 6, V)
    found = quick_jit(partial(blockwise.attend, block=2))(queries, keys, values)
    np.testing.assert_allclose(found[0], values[0, jnp.array([5, 0])], atol=1e-6)


def test_bfloat16_accumulates_in_float32():
    """Against float32 on the same inputs: the error is that of one rounding, not of one a block."""
    case = inputs(64, 64, dtype=jnp.bfloat16)
    wide = (*(x.astype(jnp.float32) for x in case[:3]), None)
    form = with_gradients(blocks, score=scaled_dot, causal=False, block=1)
    contexts, gradients = form(case, None)
    exact_contexts, exact_gradients = form(wide, None)
    for found, exact in zip(
        (contexts, *gradients[:3]), (exact_contexts, *exact_gradients[:3]), strict=True
    ):
        assert found.dtype == jnp.bfloat16
        error = np.linalg.norm(np.asarray(found, np.float32) - exact) / np.linalg.norm(exact)
        assert error < 0.004  # one rounding is 0.001, 64 of them about 0.01


def test_heads_and_vmap_are_batch_axes():
    q, k, v = normal(0, 2, 3, 5, K), normal(1, 2, 3, 7, K), normal(2, 2, 3, 7, V)
    mask = masks.padding(jnp.arange(7) < jnp.array([[7], [4]]))
    expected, _ = jax.jit(attend)(q, k, v, mask=mask[:, None])

    def form(q, k, v, mask):
        return blockwise.attend(q, k, v, mask=mask, block=3)

    found = quick_jit(form)(q, k, v, mask[:, None])  # [B, H, T, K] and a mask [B, 1, 1, S]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    mapped = quick_jit(jax.vmap(form))(q, k, v, mask)
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


def peak_memory(form, t):
    """Bytes of temporaries of a forward and backward pass, as compiled; nothing runs."""
    array = jax.ShapeDtypeStruct((1, 2, t, 32), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 1, 1, t), jnp.bool_)

    def loss(q, k, v, mask):
        return weigh(form(q, k, v, None, mask, scaled_dot, True))

    gradients = jax.jit(jax.grad(loss, (0, 1, 2))).lower(array, array, array, mask)
    return gradients.compile().memory_analysis().temp_size_in_bytes


def test_8192_positions_need_less_than_a_tenth_of_the_memory():
    """Causal and padded, gradients included; and twice the length needs twice the memory."""
    plain_bytes, block_bytes = (peak_memory(form, 8192) for form in (plain, blocks))
    assert plain_bytes > 2 * 8192 * 8192 * 4  # at the least one [T, S] of floats for each head
    assert block_bytes < plain_bytes / 10
    assert block_bytes < 2.1 * peak_memory(blocks, 4096)


def test_additive_attention_needs_less_than_a_fiftieth_of_the_memory():
    """4,096 by 4,096 positions, 512 wide, gradients included."""
    wide = jax.ShapeDtypeStruct((1, 4096, 512), jnp.float32)
    vector = jax.ShapeDtypeStruct((512,), jnp.float32)

    def peak(form):
        loss = lambda *x: weigh(form(*x, None, additive, False))
        gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(wide, wide, wide, vector)
        return gradients.compile().memory_analysis().temp_size_in_bytes

    plain_bytes = peak(plain)
    assert plain_bytes > 4096 * 4096 * 512 * 4  # one [T, S, A] of floats
    assert peak(blocks) < plain_bytes / 50
