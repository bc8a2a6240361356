"""Products of a traced program, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from benchmarks.bound import count_products, make_loop
from benchmarks.workloads import Program


def products(fn, *args, while_steps=None):
    """Return the executions of each product of a traced function by the shapes of its operands."""
    counts = {}
    for eqn, count in count_products([Program(jax.make_jaxpr(fn)(*args), while_steps)]):
        shapes = tuple(x.aval.shape for x in eqn.invars)
        counts[shapes] = counts.get(shapes, 0) + count
    return counts


def test_products_of_a_training_step_equal_hand_computed_counts():
    """Recurrent layer of 5 steps with weights read from a convolution, and a linear output."""
    kernel, images = jnp.ones((3, 2, 3, 3)), jnp.ones((4, 2, 8, 8))
    recurrent, output = jnp.ones((3, 3)), jnp.ones((3, 7))

    def loss(kernel, recurrent, output):
        x = lax.conv(images, kernel, (1, 1), "SAME").mean((2, 3))
        x, _ = lax.scan(lambda h, _: (jnp.tanh(h @ recurrent), None), x, length=5)
        return jnp.sum((jax.jit(jnp.matmul)(x, output)) ** 2)

    expected = {
        ((4, 2, 8, 8), (3, 2, 3, 3)): 1,  # convolution
        ((4, 2, 8, 8), (4, 3, 8, 8)): 1,  # gradient of its kernel
        ((4, 3), (3, 3)): 5 + 5,  # recurrence: states, and gradients of the states
        ((4, 3), (4, 3)): 5,  # gradients of the recurrent weights
        ((4, 3), (3, 7)): 1,  # output
        ((4, 7), (3, 7)): 1,  # gradient of the last state
        ((4, 7), (4, 3)): 1,  # gradient of the output weights
    }
    found = products(jax.grad(loss, (0, 1, 2)), kernel, recurrent, output)
    assert {tuple(sorted(shapes)): n for shapes, n in found.items()} == {
        tuple(sorted(shapes)): n for shapes, n in expected.items()
    }


def test_products_of_loops_branches_and_shards():
    w = jnp.ones((4, 4))
    mesh, split = jax.sharding.AbstractMesh((8,), ("data",)), PartitionSpec("data")
    sharded = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split
    )

    def program(w, steps):
        x = lax.fori_loop(0, steps, lambda _, x: x @ w, w)
        x = lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)
        return x, sharded(jnp.ones((16, 4)), w)

    found = products(program, w, 3, while_steps=10)
    assert found == {((4, 4), (4, 4)): 10 + 2, ((2, 4), (4, 4)): 8}


def test_products_that_differ_in_dtype_or_dimension_numbers_are_distinct():
    x = jnp.ones((4, 4))

    def program(x):
        y = x.astype(jnp.bfloat16)
        return x @ x, lax.dot_general(x, x, (((0,), (0,)), ((), ()))), y @ y, x @ x, x @ (x + 1)

    counts = [n for _, n in count_products([Program(jax.make_jaxpr(program)(x))] * 3)]
    assert sorted(counts) == [3, 3, 9]


def test_loop_computes_the_product_in_every_iteration():
    """XLA moves computations that do not depend on the iteration out of a loop."""
    jaxpr = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 3)), jnp.ones((3, 4)))
    ((eqn, _),) = count_products([Program(jaxpr)])
    loop, operands = make_loop(eqn, 5)
    a, b = operands
    compiled = loop.lower(operands).compile()
    np.testing.assert_allclose(compiled(operands), (a @ b).ravel()[:1], rtol=1e-5)
    text = compiled.as_text()
    entry = text[text.index("ENTRY") :]
    assert " dot(" in text
    assert " dot(" not in entry
