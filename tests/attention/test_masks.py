"""Masks against hand-computed values."""

import jax.numpy as jnp
import numpy as np

from attention import masks


def bits(mask):
    return np.asarray(mask).astype(int).tolist()


def test_padding_masks_a_key_for_every_query():
    valid = jnp.array([[True, True, False], [True, False, False]])
    mask = masks.padding(valid)
    assert mask.shape == (2, 1, 3)
    assert bits(jnp.broadcast_to(mask, (2, 2, 3))) == [[[1, 1, 0]] * 2, [[1, 0, 0]] * 2]


def test_causal_allows_current_and_past_keys():
    assert bits(masks.causal(3, 3)) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_causal_accepts_different_numbers_of_queries_and_keys():
    assert bits(masks.causal(2, 4)) == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert bits(masks.causal(4, 2)) == [[1, 0], [1, 1], [1, 1], [1, 1]]


def test_causal_offset_is_the_cache_length():
    assert bits(masks.causal(1, 4, offset=2)) == [[1, 1, 1, 0]]
    assert bits(masks.causal(2, 4, offset=jnp.int32(1))) == [[1, 1, 0, 0], [1, 1, 1, 0]]


def test_combine_is_a_logical_and():
    valid = masks.padding(jnp.array([[True, True, False], [False, True, True]]))
    assert bits(masks.combine(valid, None, masks.causal(3, 3))) == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 1, 1]],
    ]
    assert bits(masks.combine(None, valid)) == bits(valid)
    assert masks.combine(None, None) is None
    assert masks.combine() is None


def test_segments_allow_keys_of_the_same_segment_except_padding():
    mask = masks.segments(jnp.array([[1, 2, 0]]), jnp.array([[1, 1, 2, 0]]))
    assert bits(mask) == [[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]]
