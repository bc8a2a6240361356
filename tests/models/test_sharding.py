"""Collectives of models and beam search on batches sharded over devices."""

import json

import pytest

from tests.commands import run_with_devices

# Compile functions of replicated parameters and sharded batches for two devices. For each function,
# print how often each kind of collective is executed and how often it occurs in the program text.
COUNT_COLLECTIVES = """
import json, re, sys
import jax, jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from models.beam_search import beam_search
from models.cache_blocking import map_images
from models.snail.few_shot import ConvolutionalEmbedding
from tests.models.seq2seq import tiny
from tests.models.tiny import unoptimized_jit
from training import collectives

mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
sharded = lambda x, *spec: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec))
)

def count(function, params, *batch):
    params = jax.tree.map(sharded, params)
    batch = [sharded(x, "data") for x in batch]
    text = unoptimized_jit(function).lower(params, *batch).compile().as_text()
    return {
        kind: (executed, len(re.findall(rf" {kind}(?:-start)?\\(", text)))
        for kind, (executed, _) in collectives.count(text).items()
    }

def gradients(choice):
    graphdef, params = tiny.build(*choice)
    def loss(params, source, target):
        model = nnx.merge(graphdef, params)
        states, _ = model.decode(target, model.encode(source)[0])
        return jnp.sum(jax.nn.logsumexp(states @ model.output_embedding.T, -1))
    batch = jnp.ones((4, 6), jnp.int32), jnp.ones((4, 7), jnp.int32)
    return count(jax.grad(loss), params, *batch)

def create_embedding(dropout):
    return ConvolutionalEmbedding(16, 1, 4, 6, dropout=dropout, key=jax.random.key(0))

def dropout_difference():
    network, images = create_embedding(0.5), jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    embed = lambda images: map_images(network, images, jax.random.key(2))
    alone = unoptimized_jit(embed)(images)
    with jax.set_mesh(mesh):
        together = unoptimized_jit(embed)(images)
    return float(jnp.abs(together - alone).max()), float(jnp.abs(alone - network(images)).max())

def embedding():
    graphdef, params = nnx.split(nnx.eval_shape(lambda: create_embedding(0.0)))
    def loss(params, images):
        return jnp.sum(map_images(nnx.merge(graphdef, params), images) ** 2)
    with jax.set_mesh(mesh):
        return count(jax.grad(loss), params, jnp.ones((16, 16, 16, 1)))

def search(_, limits):
    table = jnp.zeros((len(limits), 2, 300))
    step = lambda last, cache, position: (table + last[..., None], cache)
    return beam_search(
        step, limits[:, None].repeat(2, 1), limits, length=5, width=2, length_penalty=0.0,
        pad=0, bos=1, eos=2,
    )

print(json.dumps({
    "search": count(search, {}, jnp.ones(4, jnp.int32)),
    "embedding": embedding(),
    "dropout": dropout_difference(),
    **{" ".join(choice): gradients(choice) for choice in json.loads(sys.argv[1])},
}))
"""
# Together, these models have every kind of parameter that a decoder step reads.
MODELS = [("rnnsearch", "content", "local_p"), ("luong_feeding", "additive")]


@pytest.fixture(scope="module")
def collectives():
    return run_with_devices(2, "-c", COUNT_COLLECTIVES, json.dumps(MODELS))


@pytest.mark.parametrize("model", [*(" ".join(model) for model in MODELS), "embedding"])
def test_gradients_are_reduced_after_the_loop(collectives, model):
    """A collective inside a loop is executed more often than it occurs in the program text."""
    ((kind, (executed, instructions)),) = collectives[model].items()
    assert kind == "all-reduce"
    assert executed == instructions


def test_beam_search_has_no_collectives_in_its_loop_body(collectives):
    """The loop condition has an all-reduce, which `training.collectives` does not count."""
    assert not collectives["search"]


def test_dropout_of_images_does_not_depend_on_the_devices(collectives):
    """On two devices, four images are two groups of two instead of one group."""
    across_devices, of_dropout = collectives["dropout"]
    assert across_devices < 1e-5 < 0.1 < of_dropout
