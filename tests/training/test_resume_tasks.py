"""Resumed runs of tasks with a training step of their own equal uninterrupted runs bitwise."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest

import tasks
from tests.commands import ROOT, xla_flags
from tests.training.runs import (
    assert_trees_equal,
    final_metrics,
    logged_metrics,
    open_checkpoints,
    wait_for,
)

STEPS, EVAL_EVERY, CHECKPOINT_EVERY, KILLS = 60, 20, 4, 20
CONFIGS = ("snail_bandits", "sagan_digits", "ptrnet_tsp20_rl")


class Runs:
    """Processes that train a smoke config.

    The processes share a separate compilation cache, so that only the first one compiles, and all
    execute the same programs.
    """

    def __init__(self, config, cache):
        self.command = [
            *(sys.executable, "train.py", f"--config=configs/{config}.py:smoke"),
            f"--config.train.steps={STEPS}",
            f"--config.train.eval_every={EVAL_EVERY}",
            f"--config.train.checkpoint_every={CHECKPOINT_EVERY}",
            "--config.train.log_every=1",
        ]
        self.env = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": xla_flags(1),
        }

    def start(self, workdir):
        pipe, command = subprocess.PIPE, [*self.command, f"--workdir={workdir}"]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, text=True, stdout=pipe, stderr=pipe
        )

    def finish(self, workdir):
        """Train to the end, and return the seconds from the first to the last step."""
        process = self.start(workdir)
        output, errors = process.communicate()
        assert process.returncode == 0 and "Finished" in output, errors
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        seconds = [json.loads(line)["seconds"] for line in lines]
        return seconds[-1] - seconds[0]


def final_state(workdir):
    """Read the last checkpoint."""
    config = tasks.read_config(str(workdir))
    abstract = jax.eval_shape(tasks.build(config, str(workdir)).init, jax.random.key(0))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    checkpoints = open_checkpoints(workdir, config)
    restored = checkpoints.restore(abstract)
    checkpoints.close()
    assert restored.record["step"] == STEPS and restored.message == ""
    return restored.state


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_killed_run_equals_uninterrupted_run(config, tmp_path):
    """A process is killed at random moments, two thirds of them during training."""
    rng, runs = random.Random(config), Runs(config, tmp_path / "cache")
    expected, workdir = tmp_path / "uninterrupted", tmp_path / "killed"
    runs.finish(expected)  # compiles
    shutil.rmtree(expected)
    seconds, killed, steps, finished = runs.finish(expected), 0, set(), 0

    def check():
        assert_trees_equal(final_state(workdir), final_state(expected))
        assert logged_metrics(workdir) == logged_metrics(expected)
        assert final_metrics(workdir) == final_metrics(expected)

    while killed < KILLS:
        process = runs.start(workdir)
        if killed % 3:
            lines = logged_metrics(workdir)
            wait_for(lambda lines=lines: logged_metrics(workdir) != lines, process, seconds=300)
            time.sleep(rng.uniform(0, seconds))
        else:
            time.sleep(rng.uniform(0, 3 * seconds))
        process.kill()
        _, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            steps.add(len(logged_metrics(workdir)))
        else:
            assert process.returncode == 0, errors
        if (workdir / "summary.json").exists():  # the run finished before the kill: start again
            finished += 1
            check()
            shutil.rmtree(workdir)
    runs.finish(workdir)
    check()
    print(f"{KILLS} kills after {sorted(steps)} lines of metrics; {finished} runs finished before")
    assert len(steps) > KILLS // 4
