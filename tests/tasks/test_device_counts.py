"""Training steps on two CPU devices equal those on one, including all random numbers."""

import json

import pytest

from tests.commands import run_with_devices

# For each config, run a step on one device and on two. Print the largest differences of the metrics
# and of the moments of the gradient, relative to their largest values, and the number of
# all-reduces of the program for two devices.
COMPARE = """
import importlib, json, sys, tempfile
import jax, numpy as np
import tasks
from tests.commands import fast_compilation
from training import collectives, mesh
from training.step import init_state, jit_train_step

def step(task, batch, count):
    devices = mesh.make_mesh(jax.devices()[:count], data=-1, fsdp=1, tensor=1)
    key = mesh.replicate(jax.random.key(1), devices)
    abstract = mesh.abstract_state(jax.eval_shape(task.init, key), devices)
    update, state = jit_train_step(task, abstract, devices), init_state(task, abstract, key)
    with jax.set_mesh(devices):
        arguments = state, mesh.shard_batch(batch, devices), key, np.int32(0)
        compiled = update.lower(*arguments).compile()
        executions, _ = collectives.count(compiled.as_text()).get("all-reduce", (0, 0))
        state, metrics = jax.device_get(compiled(*arguments))
    moments = [x for x in jax.tree.leaves(state.opt_state) if np.ndim(x)]
    return {"metrics": list(metrics.values()), "moments": moments}, executions

def compare(name, changes):
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    config.update_from_flattened_dict(changes)
    task = tasks.build(config, tempfile.mkdtemp(dir=sys.argv[2]))
    batch = next(iter(task.batches("train", 0)))
    (alone, _), (together, executions) = (step(task, batch, count) for count in (1, 2))
    largest = lambda arrays: max(float(np.abs(x).max()) for x in arrays)
    difference = lambda a, b: largest([x - y for x, y in zip(a, b)]) / largest(b)
    return {k: difference(together[k], alone[k]) for k in alone}, executions

with fast_compilation():
    print(json.dumps([compare(*case) for case in json.loads(sys.argv[1])]))
"""
# Together, these have every kind of random number that a loss depends on: dropout, sampled
# alignments, distorted images, initial memories and generated sequences.
CASES = {
    "captioning_scenes": {
        "task": "captioning.hard_attention",
        "model.attention.alignment": "hard",
        "train.accumulate": 2,
    },
    "snail_fewshot": {"data.distortion": 1.0, "model.dropout": 0.5},
    "ntm_copy": {"model.memory_init": "random"},
}


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory):
    workdirs = str(tmp_path_factory.mktemp("runs"))
    results = run_with_devices(2, "-c", COMPARE, json.dumps([*CASES.items()]), workdirs)
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("config", CASES)
def test_step_does_not_depend_on_the_number_of_devices(comparisons, config):
    differences, _ = comparisons[config]
    assert max(differences.values()) < 1e-4


@pytest.mark.parametrize("config", CASES)
def test_metrics_and_gradients_are_summed_together(comparisons, config):
    _, all_reduces = comparisons[config]
    assert all_reduces == CASES[config].get("train.accumulate", 1)
