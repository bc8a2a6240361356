"""Tests of `tasks.image_generation.sampler`."""

import jax
import numpy as np
import pytest

from models.convolutions import BatchNorm, Moments
from models.sagan import GeneratorOutput
from tasks.image_generation.sampler import GeneratorFunctions
from tests.commands import fast_compilation

BATCH_SIZE, BATCHES, CLASSES = 8, 3, 5


def make_functions(classes=CLASSES):
    return GeneratorFunctions(
        None,
        latent_size=1,
        classes=classes,
        conditional=True,
        batch_size=BATCH_SIZE,
        moment_batches=BATCHES,
    )


def test_batch_norm_moments_equal_moments_of_concatenated_batches(monkeypatch):
    """The variance exceeds the mean variance of the batches, because their means differ."""
    norm = BatchNorm(3)
    functions = make_functions()

    def make_maps(key, labels):
        return jax.random.normal(key, (BATCH_SIZE, 2, 2, 3)) + labels[:, None, None, None]

    def sample(params, moments, key, labels):
        maps = make_maps(key, labels)
        return GeneratorOutput(maps, (norm(maps)[1],), None)

    monkeypatch.setattr(functions, "sample", sample)
    labels = np.arange(BATCHES * BATCH_SIZE).reshape(BATCHES, BATCH_SIZE) % CLASSES

    @jax.jit
    def make_all_maps():
        keys = [jax.random.fold_in(jax.random.key(2019), n) for n in range(BATCHES)]
        return [make_maps(key, x) for key, x in zip(keys, labels, strict=True)]

    with fast_compilation():
        (moments,) = jax.jit(functions.batch_norm_moments)(None)
        maps = np.concatenate(make_all_maps())
    np.testing.assert_allclose(moments.mean, maps.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(moments.variance, maps.var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_variance_of_almost_constant_channels_is_accurate(monkeypatch):
    functions, rng = make_functions(), np.random.default_rng(0)
    means = np.float32(100 + 1e-2 * rng.normal(size=(BATCHES, 512)))
    variances = np.full((BATCHES, 512), 1e-4, np.float32)
    table = jax.numpy.stack([means, variances], axis=1)
    functions.moment_labels = lambda n: n
    sample = lambda params, moments, key, n: GeneratorOutput(None, (Moments(*table[n]),), None)
    monkeypatch.setattr(functions, "sample", sample)
    (moments,) = functions.batch_norm_moments(None)
    exact = 1e-4 + np.var(means.astype(np.float64), axis=0)
    np.testing.assert_allclose(moments.variance, exact, rtol=0.05)


@pytest.mark.parametrize("classes", [3, 24, 25, 1000])
def test_labels_of_the_moments_are_a_sample_of_all_classes(classes):
    functions = make_functions(classes)
    labels = np.concatenate([functions.moment_labels(n) for n in range(BATCHES)])
    if classes > 24:
        assert labels.max() > 0.9 * classes and len(set(labels)) > 12
    else:
        np.testing.assert_array_equal(labels, np.arange(24) % classes)
