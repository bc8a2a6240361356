"""Attention mechanisms as pure functions of arrays.

A *score* maps queries and keys to logits, an *alignment* maps logits to weights, and a *read* maps
weights and values to contexts. `attend` composes the three:

    contexts, weights = attend(queries, keys, values, score=additive, params=v, alignment=soft)

Letters of the axes: B batch (any leading axes) · T target or query length · S source or
key length · H heads · D model width · K, V per-head key and value width · F feed-forward width · A
alignment width · N memory rows · M memory width · P image positions · C channels · L layers · W
window or beam width.
"""

from attention.alignments import (
    Alignment,
    HardAlignment,
    argmax,
    doubly_stochastic_penalty,
    hard,
    log_soft,
    reinforce_loss,
    soft,
    straight_through,
)
from attention.attend import attend, read
from attention.multihead import (
    KeyValues,
    affine,
    attend_heads,
    extend,
    merge_heads,
    project_heads,
)
from attention.scores import Score, additive, content, dot, general, location, scaled_dot

__all__ = [
    "Alignment",
    "HardAlignment",
    "KeyValues",
    "Score",
    "additive",
    "affine",
    "argmax",
    "attend",
    "attend_heads",
    "content",
    "dot",
    "doubly_stochastic_penalty",
    "extend",
    "general",
    "hard",
    "location",
    "log_soft",
    "merge_heads",
    "project_heads",
    "read",
    "reinforce_loss",
    "scaled_dot",
    "soft",
    "straight_through",
]
