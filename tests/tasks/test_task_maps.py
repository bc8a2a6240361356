"""Every task returns attention maps whose weights are distributions, and a page of them."""

import importlib

import jax
import numpy as np
import pytest

import tasks
from configs import ptrnet_tsp
from tasks import viewer
from tests.commands import fast_compilation

CONFIGS = {  # kinds of queries and keys
    "captioning_scenes": ("tokens", "patches"),
    "ntm_copy": ("time", "rows"),
    "ptrnet_delaunay": ("choices", "points"),
    "ptrnet_hull": ("choices", "points"),
    "ptrnet_tsp": ("choices", "points"),
    "sagan_digits": ("patches", "patches"),
    "seq2seq_nmt": ("tokens", "tokens"),
    "snail_bandits": ("steps", "steps"),
    "snail_fewshot": ("images", "images"),
    "transformer_nmt": ("tokens", "tokens"),
}
SQUARE = (
    b"NAME: square\nTYPE: TSP\nDIMENSION: 6\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n"
    b"1 2 1\n2 5 1\n3 5 4\n4 2 4\n5 3 2\n6 4 3\nEOF\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_maps_of_every_task_are_distributions(name, tmp_path):
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    with fast_compilation():
        task = tasks.build(config, str(tmp_path))
        state = jax.jit(task.init)(jax.random.key(0))
        maps = task.attention_maps(state)
        page = task.attention_page(maps)
        task.figures(state)
    assert maps and {(x.queries.kind, x.keys.kind) for x in maps} == {CONFIGS[name]}
    for record in maps:
        np.testing.assert_allclose(record.weights.sum(-1), 1, atol=1e-4)
    assert page == viewer.page(maps, name)


@pytest.mark.slow
def test_map_of_an_instance_is_its_greedy_tour(tmp_path):
    task = tasks.build(ptrnet_tsp.get_config("smoke"), str(tmp_path))
    with fast_compilation():
        state = jax.jit(task.init)(jax.random.key(0))
        (record,) = task.attention_maps(state, SQUARE)
    assert record.example == "square" and record.weights.shape == (1, 1, 6, 6)
    assert sorted(record.queries.indices) == [*range(6)]
    chosen = record.weights[0, 0, range(6), record.queries.indices]
    np.testing.assert_array_equal(chosen, record.weights[0, 0].max(-1))
