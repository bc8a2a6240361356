"""Time the implementations of every benchmark, or of those whose names are given.

    python -m benchmarks
    python -m benchmarks transformer seq2seq/large

`--list` prints the names. Benchmarks run one after the other, so that only the processes of one are
in memory. A complete run is written to `benchmarks/results/`, from which `python -m
benchmarks.table` makes the tables; other runs are written to the file of `--json`.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import bound, timing
from benchmarks.table import RESULTS, column_names, format_cell, format_versions
from benchmarks.workloads import Benchmark, Measurement
from training import run
from training.console import format_bytes, make_terminal
from training.errors import UserError
from training.xla_flags import set_xla_flags

MODULES = (
    "transformer",
    "seq2seq",
    "ntm",
    "pointer",
    "snail",
    "few_shot",
    "sagan",
    "captioning",
    "attention_length",
    "loop",
    "corpus",
)
PACKAGES = ("jax", "jaxlib", "flax", "torch")
ROUNDS, QUICK_ROUNDS = 7, 2
WIDTH = 130  # of the table, in characters, also in a log file
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share a GPU
    # So that the time to the first round includes the compilation.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}


def main(argv: Sequence[str]) -> None:
    """Run the benchmarks, print a table and write the JSON file.

    Raises:
        UserError: if a name is unknown, or PyTorch is not installed.
    """
    args = parse(argv)
    entries = select(declare(args.quick), args.names)
    if args.list:
        print("\n".join(entry.name for entry in entries))
        return
    if importlib.util.find_spec("torch") is None:
        raise UserError("PyTorch is not installed: pip install -r requirements-peers.txt")
    os.environ |= ENVIRONMENT
    set_xla_flags()
    result = describe_machine() | {"benchmarks": [], "measurements": []}
    path = args.json or (None if args.names or args.quick else default_path(result["device"]))
    terminal = make_terminal()
    terminal.width = max(terminal.width, WIDTH)
    terminal.print(f"{result['device']}; {format_versions(result)}", markup=False)
    for entry in entries:
        terminal.print(f"{entry.name} ...", markup=False)
        if isinstance(entry, Measurement):
            rows = timing.call_in_process(entry.measure)
            result["measurements"].append({"name": entry.name, "rows": rows})
        else:
            implementations = dict(entry.implementations)
            implementations[bound.NAME] = partial(bound.build_products, implementations["ours"])
            timings = timing.time_interleaved(implementations, args.rounds)
            if "ours" not in timings:  # its process has printed the reason
                terminal.print(f"{entry.name} failed", markup=False)
                continue
            result["benchmarks"].append(timing.summarize(entry, timings))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            run.write_json(path, result)
    for table in tables(result):
        terminal.print(table)
    if path:
        terminal.print(f"Written to {path}.", markup=False)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="name, or the first parts of it")
    parser.add_argument("--list", action="store_true", help="print the names and exit")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes")
    parser.add_argument("--rounds", type=int, help=f"timed rounds of a benchmark ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    return args


def declare(quick: bool) -> list[Benchmark | Measurement]:
    """Return the benchmarks and measurements of all modules."""
    modules = [importlib.import_module(f"benchmarks.{name}") for name in MODULES]
    return [entry for module in modules for entry in module.declare(quick)]


def select(
    entries: Sequence[Benchmark | Measurement], names: Sequence[str]
) -> list[Benchmark | Measurement]:
    """Return the entries that have one of the names, or whose names begin with one and a slash.

    Without names, all entries are returned.

    Raises:
        UserError: if no entry has a name.
    """
    has = lambda entry, name: f"{entry.name}/".startswith(f"{name.rstrip('/')}/")
    for name in names:
        if not any(has(entry, name) for entry in entries):
            known = ", ".join(entry.name for entry in entries)
            raise UserError(f"Unknown benchmark {name!r}; choose from {known}.")
    return [x for x in entries if not names or any(has(x, name) for name in names)]


def describe_machine() -> dict[str, Any]:
    """Return the device, the versions and the XLA flags of this run."""
    installed = {package: version(package) for package in PACKAGES}
    return {
        "device": timing.call_in_process(run.device),
        "versions": {"python": platform.python_version()} | installed,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": run.commit(),
    }


def default_path(device: str) -> Path:
    """Return the file for the results of a device: 'amd_epyc_2_cores.json'."""
    return RESULTS / f"{re.sub('[^a-z0-9]+', '_', device.lower()).strip('_')}.json"


def tables(result: dict[str, Any]) -> list[Table]:
    """Return a table of all benchmarks, and one of each measurement."""
    columns = ("benchmark", "implementation", "per second", "ratio", "spread")
    benchmarks = Table(
        *columns, "first round", "memory", "peak FLOP/s", box=None, header_style="bold"
    )
    for entry in result["benchmarks"]:
        for name, x in entry["implementations"].items():
            utilization = x.get("flops_utilization")
            benchmarks.add_row(
                entry["name"],
                name,
                f"{x['throughput']:,.0f} {entry['unit']}",
                f"{x['ratio']:.2f}",
                f"{x['spread']:.0%}",
                f"{x['first_round_seconds']:.1f} s",
                format_bytes(x["peak_bytes"]),
                "" if utilization is None else f"{utilization:.0%}",
            )
    found = [benchmarks] if result["benchmarks"] else []
    for entry in result["measurements"]:
        names = column_names(entry["rows"])
        table = Table(*names, box=None, header_style="bold", title=entry["name"])
        for row in entry["rows"]:
            table.add_row(*(format_cell(row.get(name, "")) for name in names))
        found.append(table)
    return found


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
