"""Training of a small Neural Turing Machine."""

import pytest

import tasks
from configs import ntm_copy
from training import run
from training.loop import fit


def train(workdir, seed):
    """Train on 1 to 10 vectors; return their bits and the wrong bits at length 30."""
    config = ntm_copy.get_config()
    config.seed, config.data.sizes.length = seed, (1, 10)
    splits = {"test": {"length": (1, 10)}, "test_30": {"length": (30, 30)}}
    config.evaluation = {"splits": splits, "sequences": 64}
    config.model.memory_rows = 64
    config.train.update(steps=3_000, eval_every=3_000, checkpoint_every=3_000)
    run.open_workdir(config, str(workdir))
    metrics = fit(tasks.build(config, str(workdir)), config, str(workdir))["metrics"]
    return metrics["test/bits_per_sequence"], metrics["test_30/bit_errors"]


@pytest.mark.slow
def test_most_seeds_learn_to_copy_sequences_longer_than_in_training(tmp_path):
    """With zero initial biases of the heads, only one of these seeds does."""
    bits, bit_errors = zip(*(train(tmp_path / str(seed), seed) for seed in range(3)), strict=True)
    assert sum(x < 0.1 for x in bits) >= 2, bits
    assert sum(x < 1.0 for x in bit_errors) >= 2, bit_errors  # of 270
