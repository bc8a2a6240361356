"""How much of the machine a step uses: the arithmetic of its products over what matmuls reach."""

import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params


def count(jaxpr: Any) -> float:
    """Floating-point operations of all matrix products and convolutions in a jaxpr.

    Counted from the trace, not taken from XLA's cost analysis, which counts the body of a scan once
    however often it runs. What is computed anew on purpose (rematerialisation) counts again; of
    the branches of a cond the dearest counts; the body of a while loop counts once.
    """
    total = 0.0
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += 2.0 * eqn.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval
            outputs = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * eqn.outvars[0].aval.size * kernel.size / outputs
        elif eqn.primitive.name == "cond":
            total += max(count(branch) for branch in eqn.params["branches"])
        else:
            total += _repeats(eqn) * sum(count(inner) for inner in jaxprs_in_params(eqn.params))
    return total


def _repeats(eqn: Any) -> int:
    """How often an equation does what is inside of it, on all devices together."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":
        axes = eqn.params["newly_manual_axes"]
        return math.prod(eqn.params["mesh"].shape[axis] for axis in axes)
    return 1


@functools.cache
def peak() -> float:
    """FLOP/s that square matmuls reach on all devices together, timed once (about 0.3 s).

    In float32 on CPUs and in bfloat16 on accelerators, the fast type of each. The devices of a
    CPU share its cores, so there one speaks for all of its host.
    """
    on_cpu = jax.default_backend() == "cpu"
    size, dtype = (1024, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    x = jnp.ones((size, size), dtype)
    matmul = jax.jit(jnp.matmul)
    matmul(x, x).block_until_ready()
    best, end = math.inf, time.perf_counter() + 0.3
    while time.perf_counter() < end:
        start = time.perf_counter()
        matmul(x, x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best * (jax.process_count() if on_cpu else jax.device_count())
