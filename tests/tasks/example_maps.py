"""Attention maps of every kind of query and key, with random weights."""

import numpy as np

from tasks.attention_maps import (
    AttentionMap,
    Choices,
    Images,
    MemoryRows,
    Patches,
    Points,
    Steps,
    TimeSteps,
    Tokens,
)

HOSTILE = ("</script><img src=x onerror=alert(1)>", "<!--<script>", "&lt;b&gt;", "\u2028'\"\\")


def random_weights(*shape, seed=0, mask=None):
    """Sample softmax weights `[L, H, T, S]`."""
    logits = 3 * np.random.default_rng(seed).normal(size=shape)
    weights = np.exp(logits) * (1 if mask is None else mask)
    return np.float32(weights / weights.sum(-1, keepdims=True))


def random_image(side, channels, seed=0):
    """Sample a smooth image `[side, side, channels]` of uint8."""
    phase = np.random.default_rng(seed).uniform(0, 6, (2, channels))
    grid = np.linspace(0, 6, side)[:, None]
    waves = np.sin(grid + phase[0])[:, None] * np.sin(grid + phase[1])[None]
    return np.uint8(127.5 * (waves + 1))


def example_maps():
    """Return one map or more for every kind of axis."""
    rng = np.random.default_rng(0)
    source, target = (
        ["the", "old", "man", "watches", "two", "boys"],
        ["der", "alte", "Mann", "sieht", "zwei", "Jungen"],
    )
    words = Tokens("target", [*target, *HOSTILE]), Tokens("source", [*source, *HOSTILE])
    points = rng.uniform(size=(7, 2)).astype(np.float32)
    cities = Points("cities", [*map(str, range(7)), "end"], points)
    tour = Choices("tour", np.array([0, 3, 5, 1, 2, 6, 4, 7]))
    digit = Patches("digit", random_image(32, 1), 16, 16)
    scene = Patches("image", random_image(64, 3), 8, 8)
    caption = Tokens("caption", ["a", "red", "circle", "above", "a", "green", "square", "</s>"])
    trial = [Steps("step", [f"arm {n % 3}" for n in range(12)], np.arange(12.0) % 2)]
    trial.append(
        Steps(
            "input",
            ["start", *trial[0].labels[:-1]],
            np.r_[np.nan, trial[0].rewards[:-1]],
        )
    )
    bits = np.float32(rng.integers(0, 2, (24, 9)))
    episode = [f"class {n % 5}" for n in range(5)]
    images = np.stack([random_image(16, 1, seed) for seed in range(6)])
    causal = np.tri(12)
    return [
        AttentionMap(HOSTILE[0], "cross-attention", random_weights(2, 4, 10, 10), *words),
        AttentionMap(
            HOSTILE[0], "self-attention", random_weights(1, 2, 10, 10), words[0], words[0]
        ),
        AttentionMap("tour", "pointer", random_weights(1, 1, 8, 8), tour, cities),
        AttentionMap("tour", "encoder", random_weights(1, 1, 8, 8), cities, cities),
        AttentionMap("digit", "self-attention", random_weights(1, 1, 256, 256), digit, digit),
        AttentionMap("scene", "caption", random_weights(1, 1, 8, 64), caption, scene),
        AttentionMap("scene", "words", random_weights(1, 1, 64, 8), scene, caption),
        AttentionMap("trial", "attention", random_weights(1, 1, 12, 12, mask=causal), *trial),
        AttentionMap(
            "copy",
            "memory",
            random_weights(1, 2, 24, 32),
            TimeSteps("time steps", bits, bits[::-1].copy()),
            MemoryRows("memory rows", 32),
            heads=("read", "write"),
        ),
        AttentionMap(
            "episode",
            "attention",
            random_weights(2, 1, 1, 6),
            Images("image of the query", ["query, predicted 3"], images[-1:]),
            Images("images of the support set", [*episode, "query, predicted 3"], images),
        ),
    ]
