"""Plans: bytes and FLOPs as counted by hand, collectives as written in a program."""

import importlib.util
import subprocess
import sys

import jax
import pytest

import tasks
from configs import (
    sagan_digits,
    sagan_imagenet128,
    transformer_base_wmt14,
    transformer_big_wmt14,
    transformer_nmt,
)
from tasks.base import largest_batch
from tests.commands import NUMBERS, run_in_process, run_with_devices
from tests.training.runs import ROOT
from training import collectives, plan
from training.errors import UserError

PLAN = """
import json, sys
from tasks.base import largest_batch
from tests import toy
from training import plan

config, sizes = toy.get_config(), dict(zip(("data", "fsdp", "tensor"), map(int, sys.argv[1:])))
task = toy.build(config, "")
found = plan.make(task, largest_batch(task), sizes, "here")
print(json.dumps(found._asdict()))
"""
PROGRAM = """
HloModule a_program

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %g = f32[4,8]{1,0} all-gather(%x), replica_groups={}, dimensions={0}
  ROOT %t = (s32[], f32[4]) tuple(%i, %y)
}

%condition (p: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%inner (p: bf16[3]) -> bf16[3] {
  ROOT %s = (bf16[3]{0}, bf16[6]{0}) all-gather-start(%p), dimensions={0}
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %r = (f32[10]{0}, bf16[2,3]{1,0:T(8,128)}) all-reduce(%a, %b), to_apply=%add
  %w = (s32[], f32[4]) while(%z), condition=%condition, body=%body
  %v = (s32[], f32[4]) while(%z), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"2"}}
  %c = bf16[3]{0} call(%q), to_apply=%inner
  ROOT %p = f32[4]{0} collective-permute(%r), source_target_pairs={{0,1}}
}
"""


def plan_of_the_toy(*sizes):
    return run_with_devices(8, "-c", PLAN, *map(str, sizes))


def test_bytes_and_flops_by_hand():
    """The toy has layers of 4 x 32 and 32 x 8 with biases, and batches of 16 rows of 4 + 8 + 1."""
    found = plan_of_the_toy(2, 2, 2)
    assert found["parameters"] == 4 * 32 + 32 + 32 * 8 + 8
    # The width of 32 is split by tensor, that of 8 by fsdp.
    weights = 4 * (4 * 32 // 2 + 32 // 2 + 32 * 8 // 4 + 8 // 2)
    assert found["weights"] == weights
    counters = 3 * 4  # the state's, Adam's and its schedule's
    assert found["optimizer"] == 2 * weights + counters
    batch, key_and_step = 4 * (16 // 4) * (4 + 8 + 1), 2 * 4 + 4
    assert found["arguments"] == 3 * weights + counters + batch + key_and_step
    first, second = 2 * 16 * 4 * 32, 2 * 16 * 32 * 8
    assert found["flops"] == 2 * first + 3 * second  # the input needs no gradient
    metrics = found["total"] - found["arguments"] - found["activations"]
    assert 0 <= metrics < weights, "the new state takes the place of the old"


def test_split_by_rows_the_devices_exchange_the_gradient():
    found = plan_of_the_toy(8, 1, 1)
    assert found["collectives"].keys() == {"all-reduce"}
    _, size = found["collectives"]["all-reduce"]
    gradient, scalars = 4 * found["parameters"], 64
    assert gradient < size <= gradient + scalars


def test_collectives_of_a_program():
    assert collectives.count(PROGRAM) == {
        "all-gather": (7 + 2 + 1, (7 + 2) * 4 * 32 + 2 * 6),
        "all-reduce": (1, 4 * 10 + 2 * 6),
        "collective-permute": (1, 4 * 4),
    }


@pytest.mark.parametrize(
    "config, parameters",
    [(transformer_base_wmt14, 63_082_496), (transformer_big_wmt14, 214_245_376)],
)
def test_a_plan_needs_no_corpus(config, parameters, tmp_path):
    task = tasks.build_abstract(config.get_config(), str(tmp_path))
    state = jax.eval_shape(task.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(state.params)) == parameters
    assert {x.shape for x in largest_batch(task).values()} == {(128, 256)}
    assert not any(tmp_path.iterdir())


def test_a_plan_needs_no_images(tmp_path):
    config = sagan_imagenet128.get_config()
    config.data.data_dir = str(tmp_path)
    task = tasks.build_abstract(config, str(tmp_path))
    params = jax.eval_shape(task.init, jax.random.key(0)).params["discriminator"]
    assert (1000, 1024) in {x.shape for x in jax.tree.leaves(params)}, "a row for each class"
    assert largest_batch(task)["image"].shape == (256, 128, 128, 3)
    with pytest.raises(UserError, match="imagenet2012 is not prepared in data.data_dir"):
        tasks.build(config, str(tmp_path))


def test_of_images_all_batches_are_as_large(tmp_path):
    task = tasks.build(sagan_digits.get_config("smoke"), str(tmp_path))
    first = next(task.batches("train", 0))
    assert {name: (x.shape, x.dtype) for name, x in largest_batch(task).items()} == {
        name: (x.shape, x.dtype) for name, x in first.items()
    }


def test_the_largest_batch_is_one_of_the_batches(tmp_path):
    config = transformer_nmt.get_config("smoke")
    config.batching.buckets = (12, 24)
    task = tasks.build(config, str(tmp_path))
    batches = task.batches("train", 0)
    seen = {tuple(x.shape for x in next(batches).values()) for _ in range(60)}
    largest = tuple(x.shape for x in largest_batch(task).values())
    assert largest in seen
    assert max(seen, key=lambda shapes: shapes[0][1]) == largest


@pytest.mark.parametrize("memory, verdict", [(4, "yes"), (2, "no")])
def test_a_table_is_of_bytes_and_products_alone(memory, verdict):
    """Two devices of 1e12 FLOP/s, half of it reached, do 3e12 FLOPs in three seconds."""
    gib = 2**30
    found = plan.Plan(
        hardware="v0:2, 2 x TPU v0",
        chip=plan.Chip(memory * gib, 1e12),
        mesh={"data": 2, "fsdp": 1, "tensor": 1},
        batch="x 8 x 4",
        parameters=2**28,
        weights=gib,
        optimizer=gib,
        arguments=2 * gib,
        activations=gib,
        total=3 * gib,
        flops=3e12,
        collectives={"all-reduce": (4, gib)},
        refused="",
        seconds=7.0,
        core_seconds=9.0,
    )
    rows = plan.table(found, utilisation=0.5, steps=100)
    assert rows["fits"] == verdict and rows["activations, a device"] == "1.00 GiB"
    assert rows["all, a device"] == f"3.00 GiB, {300 // memory}% of {memory}.00 GiB"
    assert rows["all-reduce"] == "4 a step, 1.00 GiB a device"
    assert rows["step"] == "3000.0 ms at 50% of 1 TFLOP/s" and rows["100 steps"] == "5:00"


def test_this_machine_fits_a_small_run():
    rows = rows_of(run_in_process("train.py", NUMBERS, "--plan=here").output)
    assert rows["hardware"].startswith("here, ") and rows["mesh"].startswith("data ")
    assert rows["parameters"] == "6,848" and rows["fits"] == "yes" and "4 steps" in rows


@pytest.mark.parametrize("hardware", ["v7:4x4", "v5e", "v5e:", "v5e:4*4", "cloud"])
def test_hardware_that_nobody_knows_is_a_sentence(hardware):
    with pytest.raises(UserError, match=f"--plan={hardware.replace('*', '.')} is no hardware that"):
        plan.find(hardware)


def ask(*flags):
    """The rows that the command prints for a small Transformer."""
    command = [sys.executable, "train.py", NUMBERS, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return rows_of(done.stdout)


def rows_of(output):
    return dict(line.strip().split("  ", 1) for line in output.splitlines())


on_tpus = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no compiler for TPUs"
)


@on_tpus
@pytest.mark.parametrize("hardware, devices", [("v5e:2x2", 4), ("v5p:2x2x1", 4), ("v6e:2x2", 4)])
def test_tpus_without_any(hardware, devices):
    rows = ask(f"--plan={hardware}", "--utilisation=0.5")
    assert rows["hardware"].startswith(f"{hardware}, {devices} x TPU v")
    assert rows["mesh"] == f"data {devices} x fsdp 1 x tensor 1"
    assert rows["parameters"] == "6,848" and rows["fits"] == "yes"
    assert "all-reduce" in rows and "4 steps" in rows


@on_tpus
def test_what_does_not_fit_is_refused_with_the_figures():
    rows = ask("--plan=v5e:2x2", "--config.batching.tokens=400000000")
    assert rows["fits"].startswith("no: ") and "15.75G" in rows["fits"]
