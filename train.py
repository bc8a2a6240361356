"""Trains one run of one paper.

    python train.py --config=configs/transformer_nmt.py --workdir=runs/nmt

Any value of a config can be given on the command line: `--config.train.steps=1000`. The same
command again resumes an interrupted run. `--config=configs/x.py:smoke` runs in seconds.

    python train.py --config=configs/transformer_big_wmt14.py --plan=v5e:4x4

says what the run would need of hardware that need not be there.

    python train.py --config=configs/transformer_nmt.py --workdir=SHARED/nmt --distributed

on each of many hosts is one run. Slurm, Open MPI, Kubernetes and Cloud TPUs tell them of each
other; elsewhere, `--coordinator=HOST:PORT --processes=N --process_id=I` does.
"""

import os
import sys
import tempfile

from absl import app, flags
from ml_collections import config_flags

import tasks
from tasks.base import largest_batch
from training import allocator, hosts, mesh, plan, watcher
from training.cli import exit_code, parse_flags
from training.console import Console
from training.loop import fit
from training.run import enable_compilation_cache, lock_workdir, open_workdir

CONFIG = config_flags.DEFINE_config_file("config", None, "File in configs/, perhaps with ':smoke'.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; runs/NAME unless given.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "This is one of several processes of a run.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of them.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many they are.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is.", lower_bound=0)
PLAN = flags.DEFINE_string("plan", "", "Train nothing: plan for v5e:4x4, v5p:2x2x2, ... or 'here'.")
UTILISATION = flags.DEFINE_float(
    "utilisation", 0.4, "Share of the peak that a plan reckons with.", lower_bound=1e-3
)


def main(argv: list[str]) -> int:
    """Builds the task, trains it, and turns what a user can mend into one sentence."""
    del argv
    if DISTRIBUTED.value and not watcher.is_watched():
        return watcher.watch([sys.executable, *sys.orig_argv[1:]])
    allocator.configure_malloc()
    mesh.set_cpu_device_count(CONFIG.value.cpu_devices)
    if PLAN.value:  # what is compiled for other hardware could not be read back here
        return exit_code(show_plan)
    enable_compilation_cache()
    return exit_code(train)


def train() -> None:
    """The whole run."""
    if DISTRIBUTED.value:
        hosts.initialize_distributed(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value)
    config = CONFIG.value
    workdir = WORKDIR.value or os.path.join("runs", config.name)
    with lock_workdir(workdir):
        open_workdir(config, workdir)  # before the task, which may work long and writes there too
        fit(tasks.build(config, workdir), config, workdir)


def show_plan() -> None:
    """Compiles the run's step for the hardware asked for, and says what it would need there."""
    config, console = CONFIG.value, Console(0, "")
    plan.find(PLAN.value)  # before the task, which may work long
    with tempfile.TemporaryDirectory() as nowhere:
        task = tasks.build_abstract(config, WORKDIR.value or nowhere)
        found = plan.make(task, largest_batch(task), dict(config.mesh), PLAN.value)
    steps = config.train.steps
    rows = plan.table(found, utilisation=UTILISATION.value, steps=steps)
    console.header({"config": config.name} | rows)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
