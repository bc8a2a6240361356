"""Memory and time of blockwise attention and its gradients: `python -m benchmarks.blockwise`.

The peer is `attention.attend`, which materializes the `[T, S]` weights. Two cases: causal
dot-product attention of one head of width 64 over 8,192 positions; and additive attention of width
512 over 4,096 positions, for which the peer needs 32 GiB. In the second case the peer is compiled
but not run, and results are compared at an eighth of the length. Memory is the temporary memory of
the compiled program as reported by XLA, without arguments and results.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from attention import additive, attend, blockwise, masks
from benchmarks import timing

LENGTH, WIDTH, ROUNDS = 8192, 64, 5
ADDITIVE_LENGTH, ALIGNMENT_WIDTH = 4096, 512


def temporary_bytes(compiled: Compiled) -> int:
    """Return the temporary memory of a compiled program."""
    analysis = compiled.memory_analysis()
    assert analysis is not None  # available on every backend with a compiler
    return analysis.temp_size_in_bytes


def max_relative_error(expected: Any, actual: Any) -> float:
    """Return the largest error of any array, relative to its largest element."""
    error = lambda a, b: float(np.max(np.abs(a - b)) / np.max(np.abs(a)))
    return max(jax.tree.leaves(jax.tree.map(error, expected, actual)))


def benchmark_dot_product() -> None:
    """Print a table and the JSON line for the scaled dot product."""
    queries, keys, values, weights = (
        jax.random.normal(key, (LENGTH, WIDTH)) for key in jax.random.split(jax.random.key(0), 4)
    )

    def plain(queries, keys, values):
        return attend(queries, keys, values, mask=masks.causal(LENGTH, LENGTH))[0]

    def block(queries, keys, values):
        return blockwise.attend(queries, keys, values, causal=True)

    results, memory, compiled = {}, {}, {}
    seconds: dict[str, list[float]] = {"plain": [], "blockwise": []}
    for name, fn in {"plain": plain, "blockwise": block}.items():
        value_and_grad = jax.value_and_grad(
            lambda *args, fn=fn: jnp.sum(fn(*args) * weights), argnums=(0, 1, 2)
        )
        compiled[name] = jax.jit(value_and_grad).lower(queries, keys, values).compile()
        memory[name] = temporary_bytes(compiled[name])
        results[name] = jax.block_until_ready(compiled[name](queries, keys, values))
    for _ in range(ROUNDS):
        for name, times in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](queries, keys, values))
            times.append(time.perf_counter() - start)
    for name, times in seconds.items():
        print(f"{name:>10}  {memory[name] / 2**20:>8.1f} MiB  {statistics.median(times):.3f} s")
    timing.report(
        "blockwise",
        memory["blockwise"],
        memory["plain"],
        "bytes",
        memory["blockwise"] / memory["plain"],
        speed_ratio=timing.median_speedup(seconds["plain"], seconds["blockwise"]),
        max_relative_error=max_relative_error(*results.values()),
    )


def benchmark_additive() -> None:
    """Print a table and the JSON line for the additive score."""

    def plain(queries, keys, values, v):
        return attend(queries, keys, values, score=additive, params=v)[0]

    def block(queries, keys, values, v):
        return blockwise.attend(queries, keys, values, score=additive, params=v)

    def compile_program(fn, length):
        arrays = [jax.random.normal(jax.random.key(i), (length, ALIGNMENT_WIDTH)) for i in range(3)]
        args = (*arrays, jax.random.normal(jax.random.key(3), (ALIGNMENT_WIDTH,)))
        value_and_grad = jax.value_and_grad(lambda *x: jnp.sum(jnp.sin(fn(*x))), (0, 1, 2, 3))
        return jax.jit(value_and_grad).lower(*args).compile(), args

    memory, results = {}, []
    for name, fn in {"plain": plain, "blockwise": block}.items():
        memory[name] = temporary_bytes(compile_program(fn, ADDITIVE_LENGTH)[0])
        compiled, args = compile_program(fn, ADDITIVE_LENGTH // 8)
        results.append(compiled(*args))
    compiled, args = compile_program(block, ADDITIVE_LENGTH)
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    seconds = time.perf_counter() - start
    print(f"{'plain':>10}  {memory['plain'] / 2**20:>8.1f} MiB  (not run)")
    print(f"{'blockwise':>10}  {memory['blockwise'] / 2**20:>8.1f} MiB  {seconds:.1f} s")
    timing.report(
        "blockwise additive",
        memory["blockwise"],
        memory["plain"],
        "bytes",
        memory["blockwise"] / memory["plain"],
        max_relative_error=max_relative_error(*results),
    )


def main() -> None:
    """Run both cases."""
    benchmark_dot_product()
    benchmark_additive()


if __name__ == "__main__":
    main()
