"""Attention mechanisms as pure functions on arrays.

A *score* maps queries and keys to logits, an *alignment* maps logits to weights, a *read* maps
weights and values to contexts; every mechanism of the papers is a choice of the three.

Dimension legend, here and in all of the project: B batch (or any leading axes) · T target or query
length · S source or key length · H heads · D model width · K, V per-head key and value width · F
feed-forward width · A alignment width · N memory rows · M memory width · P image positions · C
channels · L layers · W window or beam width.
"""

from attention.alignments import (
    Alignment,
    Choice,
    hard,
    hardest,
    log_soft,
    score_function,
    soft,
    straight_through,
)
from attention.attend import attend, read
from attention.multihead import KeyValues, affine, attend_heads, extend, merge_heads, split_heads
from attention.scores import Score, additive, content, dot, general, location, scaled_dot

__all__ = [
    "Alignment",
    "Choice",
    "KeyValues",
    "Score",
    "additive",
    "affine",
    "attend",
    "attend_heads",
    "content",
    "dot",
    "extend",
    "general",
    "hard",
    "hardest",
    "location",
    "log_soft",
    "merge_heads",
    "read",
    "scaled_dot",
    "score_function",
    "soft",
    "split_heads",
    "straight_through",
]
