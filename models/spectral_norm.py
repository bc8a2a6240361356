"""Spectral normalization: weights divided by their largest singular value.

Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks".

A model marks the weights that are to be normalized with `spectral_param`. `normalize` is a function
of the parameters, applied before the model is called; the singular vectors of the power iteration
are arguments and results.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

SingularVectors = dict[str, Float[Array, " C"]]  # right singular vectors by path of the weight


def spectral_param(value: Float[Array, "*K C"], axes: tuple[str | None, ...]) -> nnx.Param:
    """Wrap a weight that is to be normalized as a matrix `[prod(K), C]`."""
    return nnx.Param(value, axes=axes, spectral=True)


def power_iteration(
    matrix: Float[Array, "K C"], vector: Float[Array, " C"]
) -> tuple[Float[Array, ""], Float[Array, " C"]]:
    """Estimate the largest singular value and update its right singular vector.

    Source: Miyato et al. 2018, alg. 1, with one iteration per use of the weights. The estimate is
    `v · W u`, differentiated with constant u and v. For exact singular vectors, its gradient is
    the gradient of the singular value.

    Args:
        matrix: W.
        vector: u, from the previous iteration.
    """
    fixed = lax.stop_gradient(matrix)
    left = _unit(fixed @ vector)
    vector = _unit(left @ fixed)
    return left @ matrix @ vector, vector


def init_vectors(params: nnx.State, key: PRNGKeyArray) -> SingularVectors:
    """Sample a random unit vector for each weight that is to be normalized."""
    widths = {path: variable.shape[-1] for path, variable in _spectral_params(params).items()}
    # One call for all weights, because every call of the PRNG adds to the compile time.
    values = jax.random.normal(key, (sum(widths.values()),), jnp.float32)
    ends = list(itertools.accumulate(widths.values()))
    return dict(zip(widths, map(_unit, jnp.split(values, ends[:-1])), strict=True))


def normalize(params: nnx.State, vectors: SingularVectors) -> tuple[nnx.State, SingularVectors]:
    """Divide the marked weights by their largest singular values; also return the new vectors."""
    normalized, new_vectors = {}, {}
    for path, variable in _spectral_params(params).items():
        value = variable[...]
        matrix = value.reshape(-1, value.shape[-1])
        norm, new_vectors[path] = power_iteration(matrix, vectors[path])
        normalized[path] = variable.replace(value / norm)
    flat = [
        (path, normalized.get(_join(path), variable))
        for path, variable in nnx.to_flat_state(params)
    ]
    return nnx.from_flat_state(flat), new_vectors


def _spectral_params(params):
    return {
        _join(path): variable
        for path, variable in nnx.to_flat_state(params)
        if variable.get_metadata().get("spectral")
    }


def _join(path):
    return "/".join(map(str, path))


def _unit(x, epsilon=1e-12):
    return x / (jnp.linalg.norm(x) + epsilon)
