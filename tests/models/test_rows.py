"""Rows that are split over devices stay apart while a loop runs: what XLA lets devices exchange."""

import json

import pytest

from tests.commands import run_with_devices

# The program of a function of rows and weights, on two devices; what it exchanges, all steps told.
COUNT = """
import json, sys
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from models.beam_search import beam_search
from tests.models import test_seq2seq
from training import collectives

mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
placed = lambda x, *spec: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec))
)

def exchanged(function, weights, *rows):
    weights = jax.tree.map(placed, weights)
    rows = [placed(x, "data") for x in rows]
    compiled = jax.jit(function).lower(weights, *rows).compile()
    return {name: times for name, (times, _) in collectives.count(compiled.as_text()).items()}

def training(choice, length):
    graph, weights = test_seq2seq.model(*choice)
    def loss(weights, source, target):
        logits = test_seq2seq.logits_of(graph, weights, source, target)
        return jnp.sum(jax.nn.logsumexp(logits, -1))
    tokens = jnp.ones((4, 6), jnp.int32), jnp.ones((4, length), jnp.int32)
    return exchanged(jax.grad(loss), weights, *tokens)

def search(_, limits):
    table = jnp.zeros((len(limits), 2, 300))
    step = lambda last, cache, position: (table + last[..., None], cache)
    return beam_search(
        step, limits[:, None].repeat(2, 1), limits, length=5, width=2, length_penalty=0.0,
        pad=0, bos=1, eos=2,
    )

print(json.dumps([
    [training(choice, length) for length in (3, 7)]
    for choice in map(tuple, json.loads(sys.argv[1]))
] + [exchanged(search, {}, jnp.ones(4, jnp.int32))]))
"""
MODELS = [
    ("rnnsearch", "additive", "soft"),
    ("rnnsearch", "content", "local_m"),
    ("luong, fed", "additive", "local_p"),
]


@pytest.fixture(scope="module")
def exchanges():
    return run_with_devices(2, "-c", COUNT, json.dumps(MODELS))


@pytest.mark.parametrize("n", range(len(MODELS)), ids=map(" ".join, MODELS))
def test_devices_sum_gradients_after_the_loop(exchanges, n):
    """As often for seven target positions as for three."""
    short, long = exchanges[n]
    assert short == long and set(short) == {"all-reduce"}


def test_beams_are_searched_where_their_sentence_is(exchanges):
    """Devices ask each other whether all are done, in the condition, which is not counted."""
    assert not exchanges[-1]
