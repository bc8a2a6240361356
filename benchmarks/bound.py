"""Matrix products and convolutions of a program alone, a bound on its speed.

Every distinct product of a round is compiled by itself, with the shapes, dtypes and dimension
numbers of the program, and runs as often as the program runs it. The products of a program that is
sharded over CPU devices have the shapes of all devices together and run on one device with all
cores.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.workloads import Implementation, Program, Workload
from training.flops import find_products

NAME = "products"  # of the implementation that a benchmark gains


def build_products(implementation: Implementation) -> Workload:
    """Create the workload that runs only the products of an implementation's round."""
    import jax

    loops = [make_loop(eqn, n) for eqn, n in count_products(implementation().trace())]
    return Workload(lambda: jax.block_until_ready([loop(operands) for loop, operands in loops]))


def count_products(programs: Sequence[Program]) -> list[tuple[Any, int]]:
    """Return an equation and the number of executions of each distinct product of the programs."""
    counts: Counter[Any] = Counter()
    examples = {}
    for program in programs:
        for product in find_products(program.jaxpr, program.while_steps):
            eqn = product.eqn
            operands = tuple(x.aval.str_short() for x in eqn.invars)
            key = (eqn.primitive, operands, str(eqn.params))
            counts[key] += product.repeats
            examples[key] = eqn
    return [(examples[key], count) for key, count in counts.items()]


def make_loop(eqn: Any, repeats: int) -> tuple[Callable[[list[Any]], Any], list[Any]]:
    """Return a jitted function that executes a product `repeats` times, and random operands."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    keys = jax.random.split(jax.random.key(0))
    operands = [
        jax.random.normal(key, x.aval.shape).astype(x.aval.dtype)
        for key, x in zip(keys, eqn.invars, strict=True)
    ]

    @jax.jit
    def loop(operands):
        def body(_, carry):
            # The operands depend on the previous product, so that it is not moved out of the loop.
            operands, _ = lax.optimization_barrier(carry)
            return operands, eqn.primitive.bind(*operands, **eqn.params)

        result = eqn.outvars[0].aval
        start = operands, jnp.zeros(result.shape, result.dtype)
        return lax.fori_loop(0, repeats, body, start)[1].ravel()[:1]

    return loop, operands
