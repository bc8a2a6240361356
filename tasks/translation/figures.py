"""Attention maps of encoder-decoders, and their figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from tasks.attention_maps import AttentionMap, Tokens
from tasks.plotting import attention_heads
from tasks.vocabulary import BOS, PAD, SPECIAL

NAMES = {
    "cross": "cross-attention",
    "encoder": "encoder self-attention",
    "decoder": "decoder self-attention",
}


def sentence_maps(
    weights: Mapping[str, Sequence[Float[np.ndarray, "B H _ _"]]],
    sentences: Sequence[str],
    sources: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
) -> list[AttentionMap]:
    """Return the attention maps of sentence pairs.

    Args:
        weights: weights of each layer of the encoder, the decoder (both self-attention) and the
            cross-attention; layers may be missing.
        sentences: titles of the B examples.
        sources: source tokens, padded.
        targets: target tokens, padded; the decoder's inputs are these, shifted by one.
    """
    maps = []
    for n, (sentence, *pair) in enumerate(zip(sentences, sources, targets, strict=True)):
        source, target = ([token for token in tokens if token != SPECIAL[PAD]] for tokens in pair)
        keys = Tokens("source", source)
        queries = Tokens("target", target)
        previous = Tokens("previous target", [SPECIAL[BOS], *target[:-1]])
        axes = {"cross": (queries, keys), "encoder": (keys, keys), "decoder": (queries, previous)}
        for kind, (rows, columns) in axes.items():
            if weights[kind]:
                layers = np.stack(
                    [layer[n, :, : len(rows), : len(columns)] for layer in weights[kind]]
                )
                maps.append(AttentionMap(sentence, NAMES[kind], layers, rows, columns))
    return maps


def attention_figures(name: str, maps: Sequence[AttentionMap]) -> dict[str, Figure]:
    """Plot the attention weights of every head for the first example.

    Args:
        name: name of the model, for the titles.
        maps: maps of `sentence_maps`.
    """
    kinds = {name: kind for kind, name in NAMES.items()}
    maps = [record for record in maps if record.example == maps[0].example]
    return {
        f"attention_{kinds[record.name]}": attention_heads(
            list(record.weights),
            record.keys.labels,
            record.queries.labels,
            title=f"{name}: {kinds[record.name]} attention, one row per layer",
        )
        for record in maps
    }
