"""Trains one run of one paper.

    python train.py --config=configs/transformer_nmt.py --workdir=runs/nmt

Any value of a config can be given on the command line: `--config.train.steps=1000`. The same
command again resumes an interrupted run. `--config=configs/x.py:smoke` runs in seconds.
"""

import os

from absl import app, flags
from ml_collections import config_flags

import tasks
from training import allocator
from training.cli import exit_code, parse_flags
from training.loop import fit
from training.run import keep_compiled, open_workdir

CONFIG = config_flags.DEFINE_config_file("config", None, "File in configs/, perhaps with ':smoke'.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; runs/NAME unless given.")


def main(argv: list[str]) -> int:
    """Builds the task, trains it, and turns what a user can mend into one sentence."""
    del argv
    allocator.keep_pages()
    keep_compiled()
    return exit_code(train)


def train() -> None:
    """The whole run."""
    config = CONFIG.value
    workdir = WORKDIR.value or os.path.join("runs", config.name)
    open_workdir(config, workdir)  # before the task, which may work long and writes there too
    fit(tasks.build(config, workdir), config, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
