"""Memory and time of blockwise attention beside the plain form: `python -m benchmarks.blockwise`.

Causal attention of 8,192 positions, one head of width 64, gradients included. Memory is what XLA
says that the compiled program needs beside its arguments and results.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from attention import attend, blockwise, masks
from benchmarks import race

LENGTH, WIDTH, ROUNDS = 8192, 64, 5


def main() -> None:
    """Prints a table and the line of JSON."""
    shape = (4, LENGTH, WIDTH)
    queries, keys, values, weights = (
        jax.random.normal(key, shape[1:]) for key in jax.random.split(jax.random.key(0), 4)
    )

    def plain(queries, keys, values):
        return attend(queries, keys, values, mask=masks.causal(LENGTH, LENGTH))[0]

    def in_blocks(queries, keys, values):
        return blockwise.attend(queries, keys, values, causal=True)

    found, memory = {}, {}
    seconds: dict[str, list[float]] = {"plain": [], "blockwise": []}
    compiled = {}
    for name, form in {"plain": plain, "blockwise": in_blocks}.items():
        both = jax.value_and_grad(
            lambda *args, form=form: jnp.sum(form(*args) * weights), argnums=(0, 1, 2)
        )
        compiled[name] = jax.jit(both).lower(queries, keys, values).compile()
        analysis = compiled[name].memory_analysis()
        assert analysis is not None  # every backend with a compiler has one
        memory[name] = analysis.temp_size_in_bytes
        found[name] = jax.block_until_ready(compiled[name](queries, keys, values))
    for _ in range(ROUNDS):
        for name, times in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](queries, keys, values))
            times.append(time.perf_counter() - start)
    errors = jax.tree.map(
        lambda a, b: float(np.max(np.abs(a - b)) / np.max(np.abs(a))), *found.values()
    )
    for name in seconds:
        typical = statistics.median(seconds[name])
        print(f"{name:>10}  {memory[name] / 2**20:>8.1f} MiB  {typical:.3f} s")
    race.report(
        "blockwise",
        memory["blockwise"],
        memory["plain"],
        "bytes",
        memory["blockwise"] / memory["plain"],
        speed_ratio=race.ratio(seconds["plain"], seconds["blockwise"]),
        largest_relative_error=max(jax.tree.leaves(errors)),
    )


if __name__ == "__main__":
    main()
