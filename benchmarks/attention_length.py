"""Time and memory of attention and its gradients by the length of the sequence, T = S.

Causal self-attention with the scaled dot product and heads of width 64, by every implementation
that the device has: `xla` with explicit weights, `blockwise`, `cudnn`, and on TPUs the kernel of
`jax.experimental.pallas`; the same within packed sentences of 64 tokens; and attention with the
additive score, by `xla` and `blockwise`. Memory is the temporary memory of the compiled program as
XLA reports it, without arguments and results.

An implementation ends at the first length whose program does not fit into the memory of the device,
or is expected to take more than a minute.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from attention import additive, attend, blockwise
from attention.masks import SegmentIds
from attention.multihead import Implementation, KeyValues, attend_heads
from benchmarks.workloads import Measurement
from training import allocator, mesh

NAME = "attention_length"
LENGTHS = tuple(2**n for n in range(10, 17))
WIDTH, HEADS = 64, {"cpu": 1}  # of other devices: 8 heads
SENTENCE = 64  # tokens of a packed sentence
ROUNDS, LIMIT = 3, 60.0  # LIMIT: seconds of a round
Attention = Callable[[Array, Array, Array], Array]  # of arrays `[1, H, T, K]`


def implementations() -> dict[str, Attention]:
    """Return the implementations that this device has."""

    def dot_product(implementation: Implementation, queries, keys, values, mask=None):
        memory, options = KeyValues(keys, values), {"causal": True, "mask": mask}
        return attend_heads(queries, memory, implementation=implementation, **options)[0]

    def packed(implementation: Implementation, queries, keys, values):
        ids = jnp.arange(queries.shape[-2]) // SENTENCE + 1
        return dot_product(implementation, queries, keys, values, SegmentIds(ids, ids))

    score_vector = jnp.ones(WIDTH)
    fns: dict[str, Attention] = {
        "xla": partial(dot_product, "xla"),
        "blockwise": partial(dot_product, "blockwise"),
        "packed, xla": partial(packed, "xla"),
        "packed, blockwise": partial(packed, "blockwise"),
        "additive, xla": lambda *x: attend(*x, score=additive, params=score_vector)[0],
        "additive, blockwise": partial(blockwise.attend, score=additive, params=score_vector),
    }
    if jax.default_backend() == "gpu":
        fns["cudnn"] = partial(dot_product, "cudnn")
        fns["packed, cudnn"] = partial(packed, "cudnn")
    if jax.default_backend() == "tpu":
        from jax.experimental.pallas.ops.tpu.flash_attention import flash_attention

        fns["pallas"] = partial(flash_attention, causal=True, sm_scale=WIDTH**-0.5)
    return fns


def measure(lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Measure every implementation at every length."""
    allocator.configure_malloc()
    return [row for name, fn in implementations().items() for row in measure_one(name, fn, lengths)]


def measure_one(name: str, fn: Attention, lengths: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yield the time and the memory of an implementation at each length."""
    backend = jax.default_backend()
    dtype = "float32" if backend == "cpu" else "bfloat16"
    gradient = jax.jit(jax.value_and_grad(lambda *x: fn(*x).astype(jnp.float32).sum(), (0, 1, 2)))
    expected = 0.0
    for length in lengths:
        row = {"implementation": name, "length": length}
        if expected > LIMIT:
            yield row | {"note": f"not run, about {expected:.0f} s"}
            return
        shape = (1, HEADS.get(backend, 8), length, WIDTH)
        x = jax.random.normal(jax.random.key(0), shape, dtype)
        compiled = gradient.lower(x, x, x).compile()
        row["MiB"] = (temporary := temporary_bytes(compiled)) / 2**20
        if temporary + 6 * x.nbytes > mesh.memory_per_device():
            yield row | {"note": "not run, does not fit into memory"}
            return
        seconds = []
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            jax.block_until_ready(compiled(x, x, x))
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds[1:])
        row |= {"ms": 1e3 * median, "µs per token": 1e6 * median / length}
        expected = 4 * seconds[-1]  # for O(T^2) operations
        yield row


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    """Return the temporary memory of a compiled program."""
    analysis = compiled.memory_analysis()
    assert analysis is not None  # available on every backend with a compiler
    return analysis.temp_size_in_bytes


def draw(rows: list[dict[str, Any]], title: str) -> Any:
    """Draw time and memory against length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.5), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("ms", "MiB"), strict=True):
        for name in dict.fromkeys(row["implementation"] for row in rows):
            points = [x for x in rows if x["implementation"] == name and column in x]
            lengths, values = ([x[key] for x in points] for key in ("length", column))
            axes.plot(lengths, values, "o-", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set(xlabel="length", ylabel=f"{column} of a forward and backward pass")
        axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    return figure


def declare(quick: bool) -> list[Measurement]:
    """Return the measurement."""
    return [Measurement(NAME, partial(measure, LENGTHS[:2] if quick else LENGTHS))]
