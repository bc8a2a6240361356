"""Write the tables of benchmarks/README.md from the files in benchmarks/results/.

    python -m benchmarks.table

Draws attention against length, as `attention_length_DEVICE.png` beside these files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import attention_length, bound
from results.table import replace_table
from training.console import format_bytes, format_rows
from training.run import read_json

RESULTS = Path(__file__).parent / "results"
README = RESULTS.parent / "README.md"


def main() -> None:
    """Update the README and the figures."""
    text = README.read_text("utf-8")
    README.write_text(replace_table(text, format_results()), "utf-8")
    for path in result_files():
        result = read_json(path)
        for entry in result["measurements"]:
            if entry["name"] == attention_length.NAME:
                figure = attention_length.draw(entry["rows"], result["device"])
                figure.savefig(path.with_name(f"{entry['name']}_{path.stem}.png"), dpi=120)


def result_files() -> list[Path]:
    """Return the paths of the recorded runs."""
    return sorted(RESULTS.glob("*.json"))


def format_results() -> str:
    """Format the tables of all recorded runs."""
    return "\n\n".join(map(format_result, map(read_json, result_files()))) or "None yet."


def format_result(result: Mapping[str, Any]) -> str:
    """Format the benchmarks and the measurements of a run."""
    header = ("benchmark", "ours, per second", "fastest PyTorch", "ratio", "spread", "of the bound")
    rows = [format_benchmark(entry) for entry in result["benchmarks"]]
    columns = (*header, "of peak FLOP/s", "first round", "memory")
    parts = [f"### {result['device']}", f"{format_versions(result)}.", format_rows(columns, rows)]
    for entry in result["measurements"]:
        names = column_names(entry["rows"])
        cells = [[format_cell(row.get(name, "")) for name in names] for row in entry["rows"]]
        parts += [f"`{entry['name']}`:", format_rows(names, cells)]
    return "\n\n".join(parts)


def format_versions(result: Mapping[str, Any]) -> str:
    """Format the versions and the XLA flags of a run."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    flags = f"`{result['xla_flags']}`" if result["xla_flags"] else "default XLA flags"
    return f"{versions}; {flags}"


def format_benchmark(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Format the row of a benchmark, with the PyTorch implementation that is the fastest."""
    implementations = entry["implementations"]
    ours = implementations["ours"]
    torch = [name for name in implementations if name.startswith("torch")]
    name = min(torch, key=lambda x: implementations[x]["ratio"])
    peer = implementations[name]
    seconds, memory = (
        [x[key] for x in (ours, peer)] for key in ("first_round_seconds", "peak_bytes")
    )
    return (
        entry["name"],
        f"{ours['throughput']:,.0f} {entry['unit']}",
        f"{peer['throughput']:,.0f} {name.removeprefix('torch ')}",
        f"{peer['ratio']:.2f}",
        f"{ours['spread']:.0%} / {peer['spread']:.0%}",
        f"{implementations[bound.NAME]['ratio']:.0%}",
        f"{ours['flops_utilization']:.1%}",
        " / ".join(f"{x:.1f} s" for x in seconds),
        " / ".join(map(format_bytes, memory)),
    )


def column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a measurement, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def format_cell(value: Any) -> str:
    """Format a cell of a measurement."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
