"""Train the runs of a sweep and compare their results.

    python sweep.py --sweep=configs/sweeps/transformer_heads.py --parallel=2

Finished runs are skipped, so running the same command again resumes the sweep. Config values can be
overridden for all runs: `--config.train.steps=1000`. With `--smoke`, each run takes a few seconds.

    python sweep.py --sweep=FILE --launcher=slurm --slurm.partition=gpu

submits the runs to Slurm and waits for them. Jobs stay in the queue if the command is interrupted;
running it again waits for the same jobs. `--status` prints the state of the jobs, and
`--cancel` cancels the jobs.
"""

import contextlib
import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

import tasks
from training import cli, run, sweeps
from training.errors import UserError
from training.files import atomic_write
from training.launchers import Launcher, LocalLauncher
from training.slurm import SlurmLauncher
from training.sweeps import ScheduledRun

SWEEP = flags.DEFINE_string("sweep", None, "Sweep file, in configs/sweeps/.")
WORKDIR = flags.DEFINE_string("workdir", "", "Directory of all runs; 'runs/NAME' by default.")
LAUNCHER = flags.DEFINE_enum("launcher", "local", ["local", "slurm"], "Backend of the runs.")
PARALLEL = flags.DEFINE_integer("parallel", 1, "Concurrent local runs.", lower_bound=1)
SLURM = config_flags.DEFINE_config_file(
    "slurm",
    None,
    "Slurm resources of a run; configs/launchers/slurm.py by default.",
    sys_argv=cli.ARGV,
)
STATUS = flags.DEFINE_bool("status", False, "Only print the state of the Slurm jobs.")
CANCEL = flags.DEFINE_bool("cancel", False, "Only cancel the Slurm jobs, which save first.")
SMOKE = flags.DEFINE_bool("smoke", False, "Use the ':smoke' variant of every config.")
OVERRIDES: dict[str, str] = {}  # values of --config.KEY=VALUE flags


def main(argv: list[str]) -> int:
    """Run the sweep and return the exit code."""
    del argv
    return cli.run_main(lambda: run_sweep(SWEEP.value or "", WORKDIR.value, SMOKE.value))


def run_sweep(file: str, workdir: str, smoke: bool) -> int:
    """Train the unfinished runs and write the report; return 1 if a run failed, otherwise 0."""
    sweep = sweeps.load(file)
    workdir = workdir or os.path.join("runs", Path(file).stem + "_smoke" * smoke)
    variant = "smoke" if smoke else ""
    scheduled = sweeps.schedule(sweep.runs, workdir, OVERRIDES, variant, tasks.complete_config)
    if STATUS.value or CANCEL.value:
        return manage_jobs(scheduled, SlurmLauncher(Path(workdir), SLURM.value))
    run.make_writable_dir(Path(workdir))
    # Slurm jobs outlive this process, so that another one may wait for them.
    lock = run.lock_workdir(workdir) if LAUNCHER.value == "local" else contextlib.nullcontext()
    with lock:
        sweeps.execute(scheduled, make_launcher(scheduled, workdir))
    results = [item.result() for item in scheduled]
    table = sweeps.markdown_table(results, sweep.metrics)
    print(table)
    sweeps.write_report(results, table, Path(workdir))
    for report in sweeps.failure_reports(scheduled, lines=5):
        print(f"\n{report}", file=sys.stderr)
    failed = sum(result.summary is None for result in results)
    if failed:
        print(
            f"\n{failed} of {len(scheduled)} runs failed; run the same command again to retry them."
        )
    with atomic_write(Path(workdir, "figure.png")) as figure_file:
        sweep.figure(results).savefig(figure_file, format="png", dpi=150)
    print(f"\nResults are in {workdir}.")
    return 1 if failed else 0


def make_launcher(scheduled: list[ScheduledRun], workdir: str) -> Launcher:
    """Create the launcher of the `--launcher` flag."""
    if LAUNCHER.value == "slurm":
        return SlurmLauncher(Path(workdir), SLURM.value)
    unfinished = sum(item.summary() is None for item in scheduled)
    # No more partitions than unfinished runs, so that each run has more cores.
    return LocalLauncher(max(1, min(PARALLEL.value, unfinished)))


def manage_jobs(scheduled: list[ScheduledRun], slurm: SlurmLauncher) -> int:
    """Cancel the jobs of a sweep, or print their state."""
    if CANCEL.value:
        print(f"Canceled {slurm.cancel()} jobs; they save first, and the runs can be resumed.")
        return 0
    for name, words in sweeps.run_states(scheduled, slurm.jobs()).items():
        print(f"{name}: {' '.join(words)}".rstrip())
    return 0


def extract_overrides(argv: list[str]) -> None:
    """Move the flags `--config.KEY=VALUE` from the command line to `OVERRIDES`.

    Raises:
        UserError: if one of these flags, or a `--slurm` flag, is invalid.
    """
    for arg in [arg for arg in argv if arg.startswith(("--config.", "-config."))]:
        key, separator, value = arg.lstrip("-").removeprefix("config.").partition("=")
        if not separator:
            raise UserError(f"{arg} has no value: write --config.key=value.")
        OVERRIDES[key] = value
        argv.remove(arg)
    given = dict(cli.iter_flags(argv))
    if not given.get("sweep"):
        raise UserError("The sweep file is missing: add --sweep=configs/sweeps/NAME.py.")
    if "slurm" not in given:
        given["slurm"] = str(Path(__file__).parent / "configs/launchers/slurm.py")
        argv.insert(1, f"--slurm={given['slurm']}")
    cli.check_keys(argv, cli.load_config(given["slurm"]), "slurm")


def parse_flags(argv: list[str]) -> list[str]:
    return cli.parse_flags(argv, extract_overrides)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
