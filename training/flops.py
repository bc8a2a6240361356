"""FLOP count of a training step and peak FLOP/s of the hardware."""

import functools
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params

from training.mesh import available_cpus

PEAK_SECONDS = 0.2  # duration of the peak measurement
WINDOW_SECONDS = 0.05  # well above the resolution of the CPU clock


class Product(NamedTuple):
    """Matrix product or convolution of a jaxpr.

    Attributes:
        eqn: equation of the primitive `dot_general` or `conv_general_dilated`.
        repeats: number of executions, summed over devices.
    """

    eqn: Any
    repeats: int

    @property
    def flops(self) -> float:
        """FLOPs of all executions."""
        lhs, rhs = (x.aval for x in self.eqn.invars)
        dimensions = self.eqn.params["dimension_numbers"]
        if self.eqn.primitive.name == "dot_general":
            terms = math.prod(lhs.shape[i] for i in dimensions[0][0])
        else:
            terms = rhs.size / rhs.shape[dimensions.rhs_spec[0]]
        return 2.0 * self.repeats * self.eqn.outvars[0].aval.size * terms


def count(jaxpr: Any, while_steps: int | None = None) -> float:
    """Count the FLOPs of the matrix products and convolutions in a jaxpr, on all devices.

    The trace is counted because XLA's cost analysis counts the body of a scan only once.

    Args:
        jaxpr: see `find_products`.
        while_steps: see `find_products`.
    """
    return sum(product.flops for product in find_products(jaxpr, while_steps))


def find_products(
    jaxpr: Any, while_steps: int | None = None, used: Sequence[bool] | None = None
) -> list[Product]:
    """Find the matrix products and convolutions in a jaxpr, with the number of their executions.

    Products whose results are unused are excluded, as XLA removes them. Rematerialized products
    are listed each time they run, and a `cond` has the products of its most expensive branch.

    Args:
        jaxpr: closed jaxpr, such as `jax.make_jaxpr(f)(x)` or `jax.jit(f).trace(x).jaxpr`.
        while_steps: number of iterations of every `while` loop. By default, the largest number that
            its condition `i < n` with a constant n admits, or 1 if it has no constant.
        used: whether each output is used; by default, all are.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    used = used or [True] * len(jaxpr.outvars)
    outputs = zip(jaxpr.outvars, used, strict=True)
    live = {x for x, is_used in outputs if is_used and not isinstance(x, Literal)}
    products: list[Product] = []
    for eqn in reversed(jaxpr.eqns):
        eqn_used = [x in live for x in eqn.outvars]
        if not (any(eqn_used) or eqn.effects):
            continue
        live.update(x for x in eqn.invars if not isinstance(x, Literal))
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            products.append(Product(eqn, 1))
        elif eqn.primitive.name == "cond":
            branches = [find_products(x, while_steps, eqn_used) for x in eqn.params["branches"]]
            products += max(branches, key=lambda found: sum(x.flops for x in found))
        else:
            # An iteration of a loop may use outputs that the equation's consumers do not.
            inner_used = None if eqn.primitive.name in ("scan", "while") else eqn_used
            repeats = _repeats(eqn, while_steps)
            for inner in jaxprs_in_params(eqn.params):
                # The outputs are those of the equation if their numbers agree.
                agrees = len(eqn_used) == len(getattr(inner, "jaxpr", inner).outvars)
                found = find_products(inner, while_steps, inner_used if agrees else None)
                products += [x._replace(repeats=repeats * x.repeats) for x in found]
    return products


def _repeats(eqn: Any, while_steps: int | None) -> int:
    """Return how often the inner jaxprs of an equation run, summed over devices."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "while":
        return while_steps or _largest_steps(eqn.params["cond_jaxpr"].jaxpr)
    if eqn.primitive.name == "shard_map":
        axes = eqn.params["newly_manual_axes"]
        return math.prod(eqn.params["mesh"].shape[axis] for axis in axes)
    return 1


def _largest_steps(condition: Any) -> int:
    """Return an upper bound of the iterations of a loop.

    It is the smallest integer constant n in a term `i < n` of the condition, or 1 without any.
    """
    bounds = [eqn.invars[1] for eqn in condition.eqns if eqn.primitive.name == "lt"]
    constants = [x.val for x in bounds if isinstance(x, Literal)]
    integers = [int(n) for n in constants if jnp.issubdtype(jnp.result_type(n), jnp.integer)]
    return min(integers, default=1)


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
