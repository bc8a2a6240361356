"""Arithmetic counted by hand."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from training import flops


def count(f, *args):
    return flops.count(jax.make_jaxpr(f)(*args))


def test_products_by_hand():
    a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    assert count(jnp.matmul, a, b) == 2 * 3 * 4 * 5 * 6


def test_backward_costs_twice_the_forward():
    w, x = jnp.ones((5, 6)), jnp.ones((4, 5))
    loss = lambda w, x: jnp.sum((x @ w) ** 2)
    assert count(jax.grad(loss, (0, 1)), w, x) == 3 * count(loss, w, x)


def test_a_scan_counts_every_turn_and_jit_is_transparent():
    w = jnp.ones((4, 4))
    looped = jax.jit(lambda x: lax.scan(lambda x, _: (x @ w, None), x, length=7)[0])
    assert count(looped, w) == 7 * 2 * 4**3


def test_convolution_by_hand():
    """8 x 8 positions, 3 x 3 kernel, 2 channels to 5."""
    x, k = jnp.ones((1, 2, 8, 8)), jnp.ones((5, 2, 3, 3))
    assert count(lambda x, k: lax.conv(x, k, (1, 1), "SAME"), x, k) == 2 * 64 * 9 * 2 * 5


def test_agrees_with_the_compiler_on_a_step_of_products():
    w, x = jnp.ones((256, 256)), jnp.ones((256, 256))
    step = jax.jit(jax.grad(lambda w, x: jnp.sum(((x @ w) @ w) ** 2)))
    compiler = step.lower(w, x).compile().cost_analysis()["flops"]
    assert abs(count(step, w, x) / compiler - 1) < 0.05


def test_peak_is_that_of_a_computer():
    assert 1e9 < flops.peak() < 1e18
    assert flops.peak() is flops.peak()


def test_a_program_split_over_devices_counts_all_of_them():
    split, whole = PartitionSpec("data"), PartitionSpec()
    eight = jax.sharding.AbstractMesh((8,), ("data",))
    each = jax.shard_map(jnp.matmul, mesh=eight, in_specs=(split, whole), out_specs=split)
    assert count(each, jnp.ones((16, 4)), jnp.ones((4, 5))) == 2 * 16 * 4 * 5
