"""Memory and time of blockwise attention beside the plain form: `python -m benchmarks.blockwise`.

Causal attention of 8,192 positions by the dot product, one head of width 64; then additive
attention of 4,096 by 4,096 positions, 512 wide, whose plain form would hold 32 GiB, so that it is
only compiled and the values are compared at an eighth of the length. Gradients included. Memory is
what XLA says that the compiled program needs beside its arguments and results.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from attention import additive, attend, blockwise, masks
from benchmarks import race

LENGTH, WIDTH, ROUNDS = 8192, 64, 5
ADDITIVE_LENGTH, ALIGNMENT = 4096, 512


def temporaries(compiled: Compiled) -> int:
    """Bytes that a program needs beside its arguments and results."""
    analysis = compiled.memory_analysis()
    assert analysis is not None  # every backend with a compiler has one
    return analysis.temp_size_in_bytes


def largest_error(one: Any, other: Any) -> float:
    """Of any array of the two, relative to its largest element."""
    error = lambda a, b: float(np.max(np.abs(a - b)) / np.max(np.abs(a)))
    return max(jax.tree.leaves(jax.tree.map(error, one, other)))


def dot_product() -> None:
    """Prints a table and a line of JSON for scaled dot products."""
    queries, keys, values, weights = (
        jax.random.normal(key, (LENGTH, WIDTH)) for key in jax.random.split(jax.random.key(0), 4)
    )

    def plain(queries, keys, values):
        return attend(queries, keys, values, mask=masks.causal(LENGTH, LENGTH))[0]

    def in_blocks(queries, keys, values):
        return blockwise.attend(queries, keys, values, causal=True)

    found, memory, compiled = {}, {}, {}
    seconds: dict[str, list[float]] = {"plain": [], "blockwise": []}
    for name, form in {"plain": plain, "blockwise": in_blocks}.items():
        both = jax.value_and_grad(
            lambda *args, form=form: jnp.sum(form(*args) * weights), argnums=(0, 1, 2)
        )
        compiled[name] = jax.jit(both).lower(queries, keys, values).compile()
        memory[name] = temporaries(compiled[name])
        found[name] = jax.block_until_ready(compiled[name](queries, keys, values))
    for _ in range(ROUNDS):
        for name, times in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](queries, keys, values))
            times.append(time.perf_counter() - start)
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
        largest_relative_error=largest_error(*found.values()),
    )


def additive_score() -> None:
    """Prints a table and a line of JSON for additive attention."""

    def plain(queries, keys, values, vector):
        return attend(queries, keys, values, score=additive, params=vector)[0]

    def in_blocks(queries, keys, values, vector):
        return blockwise.attend(queries, keys, values, score=additive, params=vector)

    def program(form, length):
        arrays = [jax.random.normal(jax.random.key(i), (length, ALIGNMENT)) for i in range(3)]
        arguments = (*arrays, jax.random.normal(jax.random.key(3), (ALIGNMENT,)))
        both = jax.value_and_grad(lambda *args: jnp.sum(jnp.sin(form(*args))), (0, 1, 2, 3))
        return jax.jit(both).lower(*arguments).compile(), arguments

    forms = {"plain": plain, "blockwise": in_blocks}
    memory, found = {}, []
    for name, form in forms.items():
        memory[name] = temporaries(program(form, ADDITIVE_LENGTH)[0])
        compiled, arguments = program(form, ADDITIVE_LENGTH // 8)
        found.append(compiled(*arguments))
    compiled, arguments = program(in_blocks, ADDITIVE_LENGTH)
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    seconds = time.perf_counter() - start
    print(f"{'plain':>10}  {memory['plain'] / 2**20:>8.1f} MiB  (not run)")
    print(f"{'blockwise':>10}  {memory['blockwise'] / 2**20:>8.1f} MiB  {seconds:.1f} s")
    race.report(
        "blockwise additive",
        memory["blockwise"],
        memory["plain"],
        "bytes",
        memory["blockwise"] / memory["plain"],
        largest_relative_error=largest_error(*found),
    )


def main() -> None:
    """Both cases."""
    dot_product()
    additive_score()


if __name__ == "__main__":
    main()
