"""Sampling of images from a generator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.convolutions import Moments
from models.sagan import GeneratorOutput

Labels = Int[Array, " B"]


class Sampler(NamedTuple):
    """Compiled functions of a generator with given parameters.

    Attributes:
        sample: images from a PRNG key and labels.
        generate: images from latents and labels.
    """

    sample: Callable[[PRNGKeyArray, Labels], GeneratorOutput]
    generate: Callable[[Float[Array, "B Z"], Labels], GeneratorOutput]


class GeneratorFunctions:
    """Pure functions of the parameters of a generator.

    Args:
        graphdef: graph definition of the generator.
        latent_size: width of the latents, Z.
        classes: number of classes of the dataset.
        conditional: whether the generator is conditioned on the class.
        batch_size: number of images per batch, for the moments of the batch norms.
        moment_batches: number of batches for these moments.
    """

    def __init__(
        self,
        graphdef: Any,
        *,
        latent_size: int,
        classes: int,
        conditional: bool,
        batch_size: int,
        moment_batches: int,
    ):
        self.graphdef, self.latent_size = graphdef, latent_size
        self.classes, self.conditional = classes, conditional
        self.batch_size, self.moment_batches = batch_size, moment_batches
        self._jit_moments = jax.jit(self.batch_norm_moments)
        self._jit_sample = jax.jit(self.sample)
        self._jit_generate = jax.jit(self.generate)

    def sample(self, params, moments, key: PRNGKeyArray, labels: Labels) -> GeneratorOutput:
        """Sample latents and generate images from them."""
        latents = jax.random.normal(key, (len(labels), self.latent_size))
        return self.generate(params, moments, latents, labels)

    def generate(self, params, moments, latents, labels: Labels) -> GeneratorOutput:
        """Generate images.

        Args:
            params: spectrally normalized parameters.
            moments: moments of the batch norms; `None` to compute them from the batch.
            latents: `[B, Z]`.
            labels: ignored if the generator is unconditional.
        """
        generator = nnx.merge(self.graphdef, params)
        return generator(latents, labels if self.conditional else None, moments)

    def batch_norm_moments(self, params) -> tuple[Moments, ...]:
        """Compute the moments of all batch norms over many batches, as if they were one batch."""

        def moments(n):
            key = jax.random.fold_in(jax.random.key(2019), n)
            return self.sample(params, None, key, self.moment_labels(n)).moments

        # Not from the mean squares, whose difference would be negative for almost constant maps.
        return tuple(
            Moments(mean.mean(0), variance.mean(0) + mean.var(0))
            for mean, variance in jax.lax.map(moments, jnp.arange(self.moment_batches))
        )

    def moment_labels(self, n) -> Labels:
        """Return the labels of batch n for the moments: all classes in turn.

        If there are more classes than images, the labels are evenly spaced.
        """
        stride = -(-self.classes // (self.batch_size * self.moment_batches))
        index = jnp.arange(self.batch_size) + n * self.batch_size
        return index * stride % self.classes

    def sampler(self, params) -> Sampler:
        """Return compiled functions that use the moments of these parameters.

        The moments of the training steps belong to earlier parameters, so they are not used.
        """
        moments = self._jit_moments(params)
        return Sampler(
            lambda key, labels: self._jit_sample(params, moments, key, labels),
            lambda latents, labels: self._jit_generate(params, moments, latents, labels),
        )
