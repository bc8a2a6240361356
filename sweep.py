"""Trains the runs of a sweep and compares them.

    python sweep.py --sweep=configs/sweeps/transformer_heads.py --parallel=2

Runs that have finished are skipped, so that the same command goes on after Ctrl-C or a failure.
Any value can be given for all runs: `--config.train.steps=1000`. `--smoke` takes seconds a run.
"""

import os
import sys
from pathlib import Path

from absl import app, flags

from training import cli, sweeps
from training.errors import UserError
from training.launchers import LAUNCHERS
from training.run import make_folder

SWEEP = flags.DEFINE_string("sweep", None, "File in configs/sweeps/.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of all runs; runs/NAME unless given.")
LAUNCHER = flags.DEFINE_enum("launcher", "local", sorted(LAUNCHERS), "Where the runs run.")
PARALLEL = flags.DEFINE_integer("parallel", 1, "How many run at once.", lower_bound=1)
SMOKE = flags.DEFINE_bool("smoke", False, "Take the ':smoke' variant of every config.")
CHANGES: dict[str, str] = {}  # values of the configs' keys


def main(argv: list[str]) -> int:
    """Trains what is left to train, and turns what a user can mend into one sentence."""
    del argv
    return cli.exit_code(lambda: run_all(SWEEP.value or "", WORKDIR.value, SMOKE.value))


def run_all(file: str, workdir: str, smoke: bool) -> int:
    """Trains, compares and reports; returns 1 if a run failed, or else 0."""
    sweep = sweeps.load(file)
    workdir = workdir or os.path.join("runs", Path(file).stem + "_smoke" * smoke)
    planned = sweeps.plan(sweep.runs, workdir, CHANGES, "smoke" if smoke else "")
    left = sum(one.summary() is None for one in planned)
    # No more than are needed, so that each has a larger share of the machine.
    launcher = LAUNCHERS[LAUNCHER.value](max(1, min(PARALLEL.value, left)))
    make_folder(Path(workdir))
    sweeps.execute(planned, launcher)
    results = [one.result() for one in planned]
    print(sweeps.record(results, sweep.measures, Path(workdir)))
    for failure in sweeps.failures(planned, lines=5):
        print(f"\n{failure}", file=sys.stderr)
    failed = sum(one.summary is None for one in results)
    if failed:
        print(f"\n{failed} of {len(planned)} runs failed; the same command tries them again.")
    sweep.figure(results).savefig(Path(workdir, "figure.png"), dpi=150)
    print(f"\nAll of it is in {workdir}.")
    return 1 if failed else 0


def read_changes(argv: list[str]) -> None:
    """Takes the flags `--config.key=value` out of the command line, for the runs."""
    for arg in [arg for arg in argv if arg.startswith(("--config.", "-config."))]:
        key, found, value = arg.lstrip("-").removeprefix("config.").partition("=")
        if not found:
            raise UserError(f"{arg} has no value: write --config.key=value")
        CHANGES[key] = value
        argv.remove(arg)
    flags.FLAGS(argv)
    if not SWEEP.value:
        raise UserError("Say which sweep: --sweep=configs/sweeps/NAME.py")


def parse_flags(argv: list[str]) -> list[str]:
    return cli.parse_flags(argv, read_changes)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
