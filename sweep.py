"""Trains the runs of a sweep and compares them.

    python sweep.py --sweep=configs/sweeps/transformer_heads.py --parallel=2

Runs that have finished are skipped, so that the same command goes on after Ctrl-C or a failure.
Any value can be given for all runs: `--config.train.steps=1000`. `--smoke` takes seconds a run.

    python sweep.py --sweep=FILE --launcher=slurm --slurm.partition=gpu

submits them to Slurm and waits; what it submitted stays in the queue if it is left, and the same
command comes back to it. With `--status` it says where the runs are, with `--cancel` it ends them.
"""

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from training import cli, sweeps
from training.errors import UserError
from training.launchers import Launcher, Local
from training.run import make_folder
from training.slurm import Slurm

SWEEP = flags.DEFINE_string("sweep", None, "File in configs/sweeps/.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of all runs; runs/NAME unless given.")
LAUNCHER = flags.DEFINE_enum("launcher", "local", ["local", "slurm"], "Where the runs run.")
PARALLEL = flags.DEFINE_integer("parallel", 1, "How many run at once here.", lower_bound=1)
SLURM = config_flags.DEFINE_config_file(
    "slurm", None, "What a run gets from Slurm: configs/launchers/slurm.py, or one of your own."
)
STATUS = flags.DEFINE_bool("status", False, "Say where the runs are in Slurm, and no more.")
CANCEL = flags.DEFINE_bool("cancel", False, "Let the runs in Slurm save and end.")
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
    if STATUS.value or CANCEL.value:
        return look_after(planned, Slurm(Path(workdir), SLURM.value))
    make_folder(Path(workdir))
    sweeps.execute(planned, make_launcher(planned, workdir))
    results = [one.result() for one in planned]
    print(sweeps.record(results, sweep.metrics, Path(workdir)))
    for failure in sweeps.failures(planned, lines=5):
        print(f"\n{failure}", file=sys.stderr)
    failed = sum(one.summary is None for one in results)
    if failed:
        print(f"\n{failed} of {len(planned)} runs failed; the same command tries them again.")
    sweep.figure(results).savefig(Path(workdir, "figure.png"), dpi=150)
    print(f"\nAll of it is in {workdir}.")
    return 1 if failed else 0


def make_launcher(planned: list[sweeps.Planned], workdir: str) -> Launcher:
    """The one that was asked for."""
    if LAUNCHER.value == "slurm":
        return Slurm(Path(workdir), SLURM.value)
    left = sum(one.summary() is None for one in planned)
    # No more at once than are needed, so that each has a larger share of the machine.
    return Local(max(1, min(PARALLEL.value, left)))


def look_after(planned: list[sweeps.Planned], slurm: Slurm) -> int:
    """Ends the jobs of a sweep, or says how they are."""
    if CANCEL.value:
        print(f"{slurm.cancel()} jobs are asked to save and end; the same runs can go on later.")
        return 0
    for name, words in sweeps.states(planned, slurm.known()).items():
        print(f"{name}: {' '.join(words)}".rstrip())
    return 0


def read_changes(argv: list[str]) -> None:
    """Takes the flags `--config.key=value` out of the command line, for the runs.

    Raises:
        UserError: if one of them, or of what Slurm is to give, is wrong.
    """
    for arg in [arg for arg in argv if arg.startswith(("--config.", "-config."))]:
        key, found, value = arg.lstrip("-").removeprefix("config.").partition("=")
        if not found:
            raise UserError(f"{arg} has no value: write --config.key=value")
        CHANGES[key] = value
        argv.remove(arg)
    given = dict(cli.given_flags(argv))
    if not given.get("sweep"):
        raise UserError("Say which sweep: --sweep=configs/sweeps/NAME.py")
    if "slurm" not in given:
        given["slurm"] = "configs/launchers/slurm.py"
        argv.insert(1, f"--slurm={given['slurm']}")
    cli.check_keys(argv, cli.load_config(given["slurm"]), "slurm")


def parse_flags(argv: list[str]) -> list[str]:
    return cli.parse_flags(argv, read_changes)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
