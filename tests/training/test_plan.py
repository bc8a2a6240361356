"""Tests of plans: memory, FLOPs and communication, against counts by hand."""

import importlib.util
import subprocess
import sys

import jax
import pytest

import tasks
from configs import (
    sagan_digits,
    sagan_imagenet128,
    seq2seq_nmt,
    transformer_base_wmt14,
    transformer_big_wmt14,
    transformer_nmt,
)
from tasks.base import largest_batch
from tests.commands import SMOKE_CONFIG, run_in_process, run_with_devices
from tests.training.runs import ROOT
from training import flops, plan
from training.errors import UserError

PLAN_SHAPES = """
import json, sys
from tasks.base import largest_batch
from tests import toy
from training import plan

task = toy.build(toy.get_config(), "")
plans = [
    plan.make_plan(task, largest_batch(task), {"data": d, "fsdp": f, "tensor": t}, "local")
    for d, f, t in json.loads(sys.argv[1])
]
print(json.dumps([x._asdict() for x in plans]))
"""


@pytest.fixture(scope="module")
def toy_plans():
    """Plans of the toy task on eight devices, with the mesh shapes (2, 2, 2) and (8, 1, 1)."""
    return run_with_devices(8, "-c", PLAN_SHAPES, "[[2, 2, 2], [8, 1, 1]]")


def test_bytes_and_flops_equal_hand_computed_counts(toy_plans):
    """The layers are 4 x 32 and 32 x 8 with biases; a batch has 16 examples of 4 + 8 + 1 floats."""
    sharded = toy_plans[0]
    assert sharded["parameters"] == 4 * 32 + 32 + 32 * 8 + 8
    # The dimension of size 32 is sharded over tensor, the one of size 8 over fsdp.
    weights = 4 * (4 * 32 // 2 + 32 // 2 + 32 * 8 // 4 + 8 // 2)
    assert sharded["weights"] == weights
    counters = 3 * 4  # of the state, Adam and the schedule
    assert sharded["optimizer"] == 2 * weights + counters
    batch, key_and_step = 4 * (16 // 4) * (4 + 8 + 1), 2 * 4 + 4
    assert sharded["arguments"] == 3 * weights + counters + batch + key_and_step
    layer1, layer2 = 2 * 16 * 4 * 32, 2 * 16 * 32 * 8
    assert sharded["flops"] == 2 * layer1 + 3 * layer2  # the input needs no gradient
    metrics = sharded["total"] - sharded["arguments"] - sharded["activations"]
    assert 0 <= metrics < weights, "the new state aliases the old state"


def test_data_parallel_step_reduces_the_gradient(toy_plans):
    data_parallel = toy_plans[1]
    assert data_parallel["collectives"].keys() == {"all-reduce"}
    _, size = data_parallel["collectives"]["all-reduce"]
    gradient, scalars = 4 * data_parallel["parameters"], 64
    assert gradient < size <= gradient + scalars


def test_flops_of_a_transformer_step_equal_hand_computed_count(tmp_path):
    """Products of weights, attention and softmax, times 3 for the backward pass, and norms."""
    config = transformer_nmt.get_config("smoke")
    task = tasks.build_abstract(config, str(tmp_path))
    state = jax.eval_shape(task.init, jax.random.key(0))
    batch = largest_batch(task)
    tokens, length = batch["target"].size, batch["target"].shape[1]
    assert batch["source"].shape == batch["target"].shape
    width, heads = config.model.width, config.model.heads * config.model.key_width
    multihead, feed_forward = 4 * width * heads, 2 * width * config.model.hidden
    encoder, decoder = multihead + feed_forward, 2 * multihead + feed_forward
    attention = 3 * 2 * length * heads  # three layers, each with logits and contexts
    softmax = width * config.vocabulary.size
    norms = 5 * 4 * width  # sums as products with vectors: two forward and two backward per norm
    expected = 2 * tokens * (3 * (encoder + decoder + attention + softmax) + norms)
    jaxpr = jax.make_jaxpr(task.train_step)(state, batch, jax.random.key(0))
    assert flops.count(jaxpr) == expected


@pytest.mark.parametrize(
    "config, parameters",
    [(transformer_base_wmt14, 63_082_496), (transformer_big_wmt14, 214_245_376)],
)
def test_plan_needs_no_corpus(config, parameters, tmp_path):
    config = config.get_config()
    task = tasks.build_abstract(config, str(tmp_path))
    state = jax.eval_shape(task.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(state.params)) == parameters
    assert {x.shape for x in largest_batch(task).values()} == {(config.packing.rows, 256)}
    assert not any(tmp_path.iterdir())


def test_plan_needs_no_images(tmp_path):
    config = sagan_imagenet128.get_config()
    config.data.data_dir = str(tmp_path)
    task = tasks.build_abstract(config, str(tmp_path))
    params = jax.eval_shape(task.init, jax.random.key(0)).params["discriminator"]
    assert (1000, 1024) in {x.shape for x in jax.tree.leaves(params)}, "class embedding"
    assert largest_batch(task)["image"].shape == (256, 128, 128, 3)
    with pytest.raises(UserError, match="imagenet2012 is not prepared in data.data_dir"):
        tasks.build(config, str(tmp_path))


@pytest.mark.parametrize("config", [sagan_digits, transformer_nmt])
def test_all_batches_of_one_shape_are_the_largest(config, tmp_path):
    task = tasks.build(config.get_config("smoke"), str(tmp_path))
    first = next(task.batches("train", 0))
    shapes = lambda batch: {name: (x.shape, x.dtype) for name, x in batch.items()}
    assert shapes(largest_batch(task)) == shapes(first)


def test_largest_bucketed_batch_is_in_the_longest_bucket(tmp_path):
    config = seq2seq_nmt.get_config("smoke")
    config.batching.buckets = (12, 24)
    task = tasks.build(config, str(tmp_path))
    batches = task.batches("train", 0)
    shapes = {tuple(x.shape for x in next(batches).values()) for _ in range(60)}
    largest = tuple(x.shape for x in largest_batch(task).values())
    assert largest in shapes
    assert max(shapes, key=lambda x: x[0][1]) == largest


@pytest.mark.parametrize("memory, fits", [(4, "yes"), (2, "no")])
def test_format_plan_reports_memory_and_time(memory, fits):
    """Two devices of 1e12 FLOP/s at 50% utilization compute 3e12 FLOPs in three seconds."""
    gib = 2**30
    example = plan.Plan(
        hardware="v0:2, 2 x TPU v0",
        chip=plan.Chip(memory * gib, 1e12),
        mesh={"data": 2, "fsdp": 1, "tensor": 1},
        batch="x: 8 x 4",
        parameters=2**28,
        weights=gib,
        optimizer=gib,
        arguments=2 * gib,
        activations=gib,
        total=3 * gib,
        flops=3e12,
        collectives={"all-reduce": (4, gib)},
        out_of_memory="",
        compile_seconds=7.0,
        compile_cpu_seconds=9.0,
    )
    rows = plan.format_plan(example, utilization=0.5, steps=100)
    assert rows["fits"] == fits and rows["activations per device"] == "1.00 GiB"
    assert rows["total per device"] == f"3.00 GiB, {300 // memory}% of {memory}.00 GiB"
    assert rows["all-reduce"] == "4 per step, 1.00 GiB per device"
    assert rows["step time"] == "3000.00 ms at 50% of 1 TFLOP/s" and rows["100 steps"] == "5:00"


def parse_rows(output):
    return dict(line.strip().split("  ", 1) for line in output.splitlines())


def test_plan_for_the_local_host_describes_the_step():
    result = run_in_process("train.py", "--config=tests/toy.py", "--plan=local")
    rows = parse_rows(result.output)
    assert rows["hardware"].startswith("local, ") and rows["mesh"].startswith("data ")
    assert rows["largest batch"] == "w: 16; x: 16 x 4; y: 16 x 8"
    assert rows["parameters"] == "424" and rows["fits"] == "yes" and "40 steps" in rows


@pytest.mark.parametrize("hardware", ["v7:4x4", "v5e", "v5e:", "v5e:4*4", "cloud"])
def test_unknown_hardware_is_rejected(hardware):
    pattern = f"Unknown hardware --plan={hardware.replace('*', '.')}: use 'local', or"
    with pytest.raises(UserError, match=pattern):
        plan.resolve_hardware(hardware)


def plan_rows(*flags):
    """Return the rows that `train.py --plan` prints for a small Transformer."""
    command = [sys.executable, "train.py", SMOKE_CONFIG, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return parse_rows(done.stdout)


needs_tpu_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is not installed"
)


@needs_tpu_compiler
@pytest.mark.parametrize("hardware, devices", [("v5e:2x2", 4), ("v5p:2x2x1", 4), ("v6e:2x2", 4)])
def test_plan_for_tpus_describes_the_step(hardware, devices):
    rows = plan_rows(f"--plan={hardware}", "--utilization=0.5")
    assert rows["hardware"].startswith(f"{hardware}, {devices} x TPU v")
    assert rows["mesh"] == f"data {devices} x fsdp 1 x tensor 1"
    assert rows["parameters"] == "6,848" and rows["fits"] == "yes"
    assert "all-reduce" in rows and "4 steps" in rows


@needs_tpu_compiler
def test_step_that_exceeds_the_memory_does_not_fit():
    rows = plan_rows("--plan=v5e:2x2", "--config.packing.rows=4000000")
    assert rows["fits"].startswith("no: ") and "15.75G" in rows["fits"]
