"""Figures of encoder-decoders."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from tasks.plotting import attention_heads
from tasks.vocabulary import BOS, SPECIAL


def attention_figures(
    name: str,
    weights: Mapping[str, Sequence[Float[np.ndarray, "1 H _ _"]]],
    source: Sequence[str],
    target: Sequence[str],
) -> dict[str, Figure]:
    """Plot every head's attention weights for a sentence pair.

    Args:
        name: name of the model, for the titles.
        weights: weights `[1, H, T, S]` of each layer of the encoder, the decoder (both
            self-attention) and the cross-attention; layers may be missing.
        source: source tokens.
        target: target tokens; the decoder's inputs are these, shifted by one.
    """
    previous = [SPECIAL[BOS], *target[:-1]]
    axes = {"encoder": (source, source), "decoder": (previous, target), "cross": (source, target)}
    return {
        f"attention_{kind}": attention_heads(
            [layer[0] for layer in layers],
            *axes[kind],
            title=f"{name}: {kind} attention, one row per layer",
        )
        for kind, layers in weights.items()
        if layers
    }
