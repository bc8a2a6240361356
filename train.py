"""Train a config.

    python train.py --config=configs/transformer_nmt.py --workdir=runs/nmt

Any config value can be overridden: `--config.train.steps=1000`. Running the same command again
resumes an interrupted run. The variant `--config=configs/NAME.py:smoke` finishes within seconds.

`--profile=10` traces ten training steps.

Estimate the memory and the step time on hardware that need not be present:

    python train.py --config=configs/transformer_big_wmt14.py --plan=v5e:4x4

Train on several hosts, by running the same command on each:

    python train.py --config=configs/transformer_nmt.py --workdir=SHARED/nmt --distributed

Slurm, Open MPI, Kubernetes and Cloud TPUs are detected; otherwise add `--coordinator=HOST:PORT
--processes=N --process_id=I`.
"""

import os
import sys
import tempfile
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

import tasks
from tasks.base import largest_batch
from training import (
    allocator,
    checkpoints,
    hosts,
    mesh,
    plan,
    run,
    supervisor,
    weights,
    xla_flags,
)
from training.cli import ARGV, parse_flags, run_main
from training.console import Console
from training.errors import UserError
from training.loop import fit

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, optionally with ':smoke'.", sys_argv=ARGV
)
WORKDIR = flags.DEFINE_string("workdir", "", "Run directory; 'runs/NAME' by default.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Whether the run has several processes.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process.")
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process.", lower_bound=0)
PLAN = flags.DEFINE_string(
    "plan", "", "Hardware to estimate for ('v5e:4x4', 'v5p:2x2x2', 'local'); does not train."
)
UTILIZATION = flags.DEFINE_float(
    "utilization", 0.4, "Fraction of peak FLOP/s that --plan assumes.", lower_bound=1e-3
)
PROFILE = flags.DEFINE_integer(
    "profile", 0, "Number of steps to trace for TensorBoard and Perfetto.", lower_bound=0
)


def main(argv: list[str]) -> int:
    """Train or plan, and return the exit code."""
    del argv
    if DISTRIBUTED.value and not supervisor.is_supervised():
        return supervisor.supervise([sys.executable, *sys.orig_argv[1:]])
    allocator.configure_malloc()
    run.ignore_jax_flags()
    xla_flags.set_xla_flags()
    mesh.set_cpu_device_count(CONFIG.value.cpu_devices)
    if PLAN.value:  # without the cache, because programs for absent hardware cannot be loaded
        return run_main(show_plan)
    run.enable_compilation_cache()
    return run_main(train)


def train() -> None:
    """Build the task and train it."""
    connection = COORDINATOR.value, PROCESSES.value, PROCESS_ID.value
    if DISTRIBUTED.value:
        hosts.initialize_distributed(*connection)
    elif connection != (None, None, None):
        raise UserError("--coordinator, --processes and --process_id need --distributed.")
    mesh.initialize_devices()
    config = CONFIG.value
    workdir = WORKDIR.value or os.path.join("runs", config.name)
    mesh.check_mesh_shape(dict(config.mesh))
    options = ("keep", "average", "best_mode")
    checkpoints.check_options(**{name: config.train[name] for name in options})
    with run.lock_workdir(workdir):
        # Before the task, whose data preparation may take long.
        run.open_workdir(config, workdir, tasks.complete_config)
        is_new = not Path(workdir, checkpoints.DIRECTORY).exists()
        if is_new and config.train.init_from != "none":
            weights.read_weights(Path(config.train.init_from))
        fit(tasks.build(config, workdir), config, workdir, PROFILE.value)


def show_plan() -> None:
    """Compile the training step for the hardware of `--plan` and print its resource needs."""
    config, console = CONFIG.value, Console(0, "")
    mesh.initialize_devices()
    plan.resolve_hardware(PLAN.value)  # reports unknown hardware before the task is built
    with tempfile.TemporaryDirectory() as empty:
        task = tasks.build_abstract(config, WORKDIR.value or empty)
        result = plan.make_plan(task, largest_batch(task), dict(config.mesh), PLAN.value)
    steps = config.train.steps
    rows = plan.format_plan(result, utilization=UTILIZATION.value, steps=steps)
    console.header({"config": config.name} | rows)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
