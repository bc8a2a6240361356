"""Every task returns attention maps whose weights are distributions, and a page of them."""

import importlib

import jax
import numpy as np
import pytest

import tasks
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


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_maps_of_every_task_are_distributions(name, tmp_path):
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    with fast_compilation():
        task = tasks.build(config, str(tmp_path))
        state = jax.jit(task.init)(jax.random.key(0))
        maps = task.attention_maps(state)
        pages = task.pages(state)
        task.figures(state)
    assert maps and {(x.queries.kind, x.keys.kind) for x in maps} == {CONFIGS[name]}
    for record in maps:
        np.testing.assert_allclose(record.weights.sum(-1), 1, atol=1e-4)
    assert pages == {"attention": viewer.page(maps, name)}
