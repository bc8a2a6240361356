"""FLOP count of a training step and peak FLOP/s of the hardware."""

import functools
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params

from training.mesh import available_cpus

PEAK_SECONDS = 0.2  # duration of the peak measurement
WINDOW_SECONDS = 0.05  # well above the resolution of the CPU clock


def count(jaxpr: Any) -> float:
    """Count the FLOPs of the matrix products and convolutions in a jaxpr, on all devices.

    The trace is counted because XLA's cost analysis counts the body of a scan only once. Products
    whose results are unused are excluded, as XLA removes them. Rematerialized products count each
    time they run, a `cond` counts as its most expensive branch, and the body of a `while` loop
    whose trip count is unknown counts once.

    Args:
        jaxpr: closed jaxpr, such as `jax.make_jaxpr(f)(x)` or `jax.jit(f).trace(x).jaxpr`.
    """
    return _count_used(jaxpr)


def _count_used(jaxpr: Any, used: Sequence[bool] | None = None) -> float:
    """Count the FLOPs that the used outputs of a jaxpr depend on; by default all are used."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    used = used or [True] * len(jaxpr.outvars)
    outputs = zip(jaxpr.outvars, used, strict=True)
    live = {x for x, is_used in outputs if is_used and not isinstance(x, Literal)}
    total = 0.0
    for eqn in reversed(jaxpr.eqns):
        eqn_used = [x in live for x in eqn.outvars]
        if not (any(eqn_used) or eqn.effects):
            continue
        live.update(x for x in eqn.invars if not isinstance(x, Literal))
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += 2.0 * eqn.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval
            channels = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * eqn.outvars[0].aval.size * kernel.size / channels
        elif eqn.primitive.name == "cond":
            total += max(_count_used(branch, eqn_used) for branch in eqn.params["branches"])
        else:
            # An iteration of a loop may use outputs that the equation's consumers do not.
            inner_used = None if eqn.primitive.name in ("scan", "while") else eqn_used
            inner = jaxprs_in_params(eqn.params)
            total += _repeats(eqn) * sum(_count_inner(x, inner_used) for x in inner)
    return total


def _count_inner(jaxpr: Any, used: Sequence[bool] | None) -> float:
    """Count an inner jaxpr, whose outputs are those of its equation if their numbers agree."""
    agrees = used is not None and len(used) == len(getattr(jaxpr, "jaxpr", jaxpr).outvars)
    return _count_used(jaxpr, used if agrees else None)


def _repeats(eqn: Any) -> int:
    """Return how often the inner jaxpr of an equation runs, summed over devices."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":
        axes = eqn.params["newly_manual_axes"]
        return math.prod(eqn.params["mesh"].shape[axis] for axis in axes)
    return 1


@functools.cache
def peak() -> float:
    """Measure the FLOP/s that square matrix products reach on all devices of the run together.

    Accelerators are timed in bfloat16 by wall time. CPUs are timed in float32 by the CPU time of
    the process, scaled to all of its cores: other processes lengthen the wall time of a product
    but not its CPU time, and a peak measured too low would give utilizations above 100%.
    """
    if jax.default_backend() == "cpu":
        rate = _matmul_rate(1024, jnp.float32, time.process_time)
        return rate * available_cpus() * jax.process_count()
    return _matmul_rate(8192, jnp.bfloat16, time.perf_counter) * jax.device_count()


def _matmul_rate(size: int, dtype: Any, clock: Any) -> float:
    """Return the FLOPs of a matmul per second of `clock`, the best of several windows.

    CPU time of other threads is accounted with a delay, so a single product is too short to time.
    """
    x = jnp.ones((size, size), dtype)
    matmul = jax.jit(jnp.matmul)
    matmul(x, x).block_until_ready()
    best, end = 0.0, time.perf_counter() + PEAK_SECONDS
    while time.perf_counter() < end:
        products, start, window = 0, clock(), time.perf_counter() + WINDOW_SECONDS
        while time.perf_counter() < window:
            matmul(x, x).block_until_ready()
            products += 1
        best = max(best, products / (clock() - start))
    return 2.0 * size**3 * best
