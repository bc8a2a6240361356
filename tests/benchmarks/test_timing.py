"""Timing of implementations in turn, and the numbers that are derived from it."""

import pytest

from benchmarks.timing import Resources, Timing, spread, summarize, time_interleaved
from benchmarks.workloads import Benchmark, Program, Workload


def test_ratio_is_the_median_over_rounds():
    """The machine is slower in the third round, which affects both implementations."""
    timings = {
        "ours": Timing(1.0, [1.0, 1.0, 4.0], Resources(10, flops=50.0, peak_flops=100.0)),
        "torch eager": Timing(2.0, [2.0, 3.0, 8.0], Resources(20)),
    }
    benchmark = Benchmark("name", 30, "tokens", {})
    summary = summarize(benchmark, timings)
    ours, torch = (summary["implementations"][name] for name in timings)
    assert (ours["ratio"], torch["ratio"]) == (1.0, 2.0)
    assert (ours["throughput"], torch["throughput"]) == (30.0, 10.0)
    assert ours["flops_utilization"] == 0.5
    assert "flops_utilization" not in torch


def test_spread_is_relative_to_the_median():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 3
    assert spread([1.0]) == 0.0


def make_workload():
    return Workload(lambda: None, list)


def make_traced_workload():
    import jax
    import jax.numpy as jnp

    x = jnp.ones((2, 2))
    return Workload(lambda: None, lambda: [Program(jax.make_jaxpr(jnp.matmul)(x, x))] * 3)


def fail():
    raise ValueError("cannot be built")


@pytest.mark.slow
def test_implementation_that_cannot_be_built_is_left_out():
    timings = time_interleaved(
        {"ours": make_traced_workload, "broken": fail, "torch": make_workload}, rounds=2
    )
    assert list(timings) == ["ours", "torch"]
    assert [len(x.seconds) for x in timings.values()] == [2, 2]
    assert timings["ours"].resources.flops == 3 * 16
    assert all(x.first_round > max(x.seconds) for x in timings.values())
    assert all(x.resources.peak_bytes > 2**20 for x in timings.values())
