"""Kernels, models and training steps work if JAX's default types have 64 bits."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import attention
import tasks
from attention import blockwise, local, memory, pointer, spatial
from models.ntm import NTM
from tasks.base import largest_batch

B, T, S, K = 2, 4, 6, 3


@pytest.fixture(autouse=True)
def enable_x64():
    with jax.enable_x64(True):
        yield


def gradient_dtypes(function, *shapes, dtype):
    """Trace the gradient of the sum of all outputs, and return the dtypes of the gradients."""

    def loss(inputs):
        return sum(jnp.sum(x) for x in jax.tree.leaves(function(*inputs)))

    inputs = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return {x.dtype for x in jax.eval_shape(jax.grad(loss), inputs)}


def blockwise_additive(queries, keys, values, params):
    score = {"score": attention.additive, "params": params}
    return blockwise.attend(queries, keys, values, causal=True, block=2, **score)


def local_attention(queries, keys, values, centers):
    options = {"half_width": 1, "gaussian": True}
    return local.attend(queries, keys, values, centers, jnp.ones((B, S), bool), **options)


def memory_access(rows, previous, key, strength, shifts):
    heads = memory.HeadParameters(key, strength, strength, shifts, strength)
    weights = memory.address(rows, previous, heads)
    return memory.write(rows, weights, key, key)


QUERIES, KEYS = (B, T, K), (B, S, K)
KERNELS = {
    "attend": (attention.attend, QUERIES, KEYS, KEYS),
    "additive": (attention.additive, QUERIES, KEYS, (K,)),
    "general": (attention.general, QUERIES, KEYS, (K, K)),
    "content": (attention.content, QUERIES, KEYS, ()),
    "blockwise": (blockwise_additive, QUERIES, KEYS, KEYS, (K,)),
    "local": (local_attention, QUERIES, KEYS, KEYS, (B, T)),
    "memory": (memory_access, (B, K, S), (B, T, S), QUERIES, (B, T), (B, T, 3)),
    "pointer": (partial(pointer.point, score=attention.dot, bound=2.0), QUERIES, KEYS),
    "straight_through": (
        lambda logits: attention.straight_through(logits, jax.random.key(0)),
        (B, T, S),
    ),
    "spatial": (
        lambda maps, *weights: spatial.attend_map(maps, spatial.Projections(*weights)),
        (B, 4, 4, K),
        *[(K, K)] * 4,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KERNELS)
def test_gradients_of_kernels_have_the_dtype_of_their_inputs(name, dtype):
    assert gradient_dtypes(*KERNELS[name], dtype=dtype) == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    "memory_init", ["constant", pytest.param("random", marks=pytest.mark.slow)]
)
def test_weights_and_carries_of_models_are_float32(memory_init):
    sizes = {"inputs": K, "outputs": 2, "hidden": 4, "layers": 1, "heads": 1, "memory_rows": S}
    create = partial(NTM, controller="lstm", memory_width=3, max_shift=1, **sizes)
    create = partial(
        create,
        memory_init=memory_init,
        gate_bias=0.0,
        shift_bias=0.0,
        erase_bias=0.0,
        backward_clip=0.0,
        key=jax.random.key(0),
    )
    graphdef, params = nnx.split(nnx.eval_shape(create))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    apply = lambda params, *inputs: nnx.merge(graphdef, params)(*inputs)
    inputs = jax.ShapeDtypeStruct((T, B, K), "float64")
    logits = jax.eval_shape(apply, params, inputs, jnp.int32(T), jax.random.key(0))
    assert logits.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        "ntm_copy",
        "ntm_ngrams",
        "ntm_recall",
        "ntm_repeat_copy",
        "ntm_sort",
        "ptrnet_hull_gpu",
        "ptrnet_tsp",
        "ptrnet_tsp20_rl",
        "sagan_digits",
        "seq2seq_nmt",
        "snail_bandits",
        "snail_fewshot",
        "snail_maze",
        "snail_mdp",
        "transformer_nmt",
    ],
)
def test_training_step_preserves_the_types_of_the_state(config, tmp_path):
    task = tasks.build(
        importlib.import_module(f"configs.{config}").get_config("smoke"), str(tmp_path)
    )
    key = jax.random.key(0)
    state = jax.eval_shape(task.init, key)
    new_state, _ = jax.eval_shape(task.train_step, state, largest_batch(task), key)
    types = [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert types == [(x.shape, x.dtype) for x in jax.tree.leaves(new_state)]
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
