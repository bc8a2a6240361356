"""Tests of FLOP counts, against counts by hand, and of the measured peak FLOP/s."""

import os
import subprocess

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from models.recurrence import rnn_scan
from training import flops


def count(f, *args):
    return flops.count(jax.make_jaxpr(f)(*args))


def test_batched_matmul_equals_hand_computed_count():
    a, b = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    assert count(jnp.matmul, a, b) == 2 * 3 * 4 * 5 * 6


def test_convolution_equals_hand_computed_count():
    """There are 8 x 8 positions, a 3 x 3 kernel, 2 input and 5 output channels."""
    x, k = jnp.ones((1, 2, 8, 8)), jnp.ones((5, 2, 3, 3))
    assert count(lambda x, k: lax.conv(x, k, (1, 1), "SAME"), x, k) == 2 * 64 * 9 * 2 * 5


def test_backward_pass_costs_twice_the_forward_pass():
    w, x = jnp.ones((5, 6)), jnp.ones((4, 5))
    loss = lambda w, x: jnp.sum((x @ w) ** 2)
    assert count(jax.grad(loss, (0, 1)), w, x) == 3 * count(loss, w, x)


def test_training_step_omits_the_gradient_of_the_input():
    """The forward pass has two products, the backward pass three: the input needs no gradient."""
    x, w1, w2 = jnp.ones((16, 4)), jnp.ones((4, 32)), jnp.ones((32, 8))
    loss = lambda w1, w2: jnp.sum((jnp.tanh(x @ w1) @ w2) ** 2)
    layer1, layer2 = 2 * 16 * 4 * 32, 2 * 16 * 32 * 8
    assert count(jax.value_and_grad(loss, (0, 1)), w1, w2) == 2 * layer1 + 3 * layer2


def test_body_of_a_jitted_scan_counts_every_iteration():
    w = jnp.ones((4, 4))
    loop = jax.jit(lambda x: lax.scan(lambda x, _: (x @ w, None), x, length=7)[0])
    assert count(loop, w) == 7 * 2 * 4**3


def test_cond_counts_its_most_expensive_branch():
    w = jnp.ones((4, 4))
    branches = (lambda x: x @ w @ w, lambda x: x @ w)
    assert count(lambda x: lax.cond(x[0, 0] > 0, *branches, x), w) == 2 * 2 * 4**3


def test_unused_products_do_not_count():
    """The forward product of a linear layer is unused by its gradient, also inside a scan."""
    w, x = jnp.ones((5, 6)), jnp.ones((4, 5))
    gradient = lambda w: jax.vjp(lambda w: x @ w, w)[1](jnp.ones((4, 6)))[0]
    loop = lambda w: lax.scan(lambda w, _: (w - gradient(w), None), w, length=3)[0]
    assert count(gradient, w) == 2 * 4 * 5 * 6
    assert count(loop, w) == 3 * 2 * 4 * 5 * 6


def test_rematerialized_products_count_again():
    w, x = jnp.ones((5, 5)), jnp.ones((4, 5))
    loss = lambda w, remat: jnp.sum(jnp.sin(remat(lambda x: jnp.sin(x @ w))(x) @ w))
    stored = count(jax.grad(lambda w: loss(w, lambda f: f)), w)
    rematerialized = count(jax.grad(lambda w: loss(w, jax.checkpoint)), w)
    assert rematerialized - stored == 2 * 4 * 5 * 5


def test_shard_map_counts_all_devices():
    split, replicated = PartitionSpec("data"), PartitionSpec()
    eight = jax.sharding.AbstractMesh((8,), ("data",))
    f = jax.shard_map(jnp.matmul, mesh=eight, in_specs=(split, replicated), out_specs=split)
    assert count(f, jnp.ones((16, 4)), jnp.ones((4, 5))) == 2 * 16 * 4 * 5


def test_count_agrees_with_the_cost_analysis_of_xla():
    w, x = jnp.ones((256, 256)), jnp.ones((256, 256))
    step = jax.jit(jax.grad(lambda w, x: jnp.sum(((x @ w) @ w) ** 2)))
    expected = step.lower(w, x).compile().cost_analysis()["flops"]
    assert abs(count(step, w, x) / expected - 1) < 0.05


def test_peak_is_plausible_and_measured_once():
    assert 1e9 < flops.peak() < 1e18
    assert flops.peak() is flops.peak()


def test_waiting_for_the_cpu_does_not_lower_the_peak():
    """A second process stops this one for nine tenths of a second."""
    if jax.default_backend() != "cpu":
        pytest.skip("accelerators are timed by wall time")
    expected = flops.peak()
    kill = lambda signal, seconds: f"kill -{signal} {os.getpid()}; sleep {seconds}; "
    stops = 10 * (kill("STOP", 0.09) + kill("CONT", 0.01))
    with subprocess.Popen(["sh", "-c", stops]):
        assert flops.peak.__wrapped__() > 0.5 * expected


def test_while_loop_counts_the_given_number_of_steps():
    w = jnp.ones((4, 4))
    jaxpr = jax.make_jaxpr(lambda steps: lax.fori_loop(0, steps, lambda _, x: x @ w, w))(3)
    assert flops.count(jaxpr) == 2 * 4**3
    assert flops.count(jaxpr, while_steps=10) == 10 * 2 * 4**3


def test_recurrence_with_traced_steps_counts_as_many_steps_as_its_inputs():
    """Forward and backward recurrent products of 7 steps, and the gradient of the weights."""
    w, xs = jnp.ones((4, 4)), jnp.ones((7, 3, 4))

    def loss(w, steps):
        step = lambda matmul, consts, h, x: (jnp.tanh(matmul("w", h) + x),) * 2
        return rnn_scan(step, {"w": w}, None, jnp.ones((3, 4)), xs, steps)[1].sum()

    static = count(jax.grad(lambda w: loss(w, None)), w)
    assert static == 3 * 7 * 2 * 3 * 4 * 4
    assert count(jax.grad(loss), w, jnp.int32(5)) == static
