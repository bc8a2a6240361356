"""Makes the README's table of results: `python -m results.table`.

Its rows are the summaries of the runs kept in this folder, one folder a run or a sweep.
"""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

from training.console import duration

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = ("run", "metric", "ours", "paper", "steps", "time", "seed", "device")


def main() -> None:
    """Rewrites the table and nothing else of the README."""
    README.write_text(replaced(README.read_text(), table()))


def table() -> str:
    """The table, a row for each metric that a paper prints or that a run is judged by."""
    rows = [row for path in sorted(RESULTS.glob("*/summary.json")) for row in rows_of(path)]
    if not rows:
        return "No run is on record yet."
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows))


def rows_of(path: Path) -> Iterator[tuple[str, ...]]:
    """Rows of a `summary.json`: one for each metric of a run, or for the whole of a sweep."""
    content = json.loads(path.read_text())
    link = f"[{path.parent.name}](results/{path.parent.name})"
    if isinstance(content, list):
        yield from rows_of_sweep(f"{link}, {len(content)} runs", content)
        return
    for metric in dict.fromkeys([headline(content["config"]), *content["paper"]]):
        figures = (figure(content[side], metric) for side in ("metrics", "paper"))
        yield (link, metric, *figures, *conditions([content]))


def rows_of_sweep(name: str, runs: list[dict]) -> Iterator[tuple[str, ...]]:
    """From the least to the most that a metric is; the sweep has a table of its own."""
    for metric in dict.fromkeys(headline(run["config"]) for run in runs):
        found = [run["metrics"][metric] for run in runs if metric in run["metrics"]]
        yield (name, metric, f"{min(found):.4g} to {max(found):.4g}", "–", *conditions(runs))


def conditions(runs: list[dict]) -> tuple[str, ...]:
    """Steps, time in all, seeds and device."""
    each = lambda values: ", ".join(dict.fromkeys(values))
    return (
        each(f"{run['steps']:,}" for run in runs),
        duration(sum(run["seconds"] for run in runs)),
        each(str(run["seed"]) for run in runs),
        each(run["device"] for run in runs),
    )


def figure(figures: dict[str, float], metric: str) -> str:
    """Four digits, or a dash where there is no such figure."""
    return f"{figures[metric]:.4g}" if metric in figures else "–"


def headline(config: str) -> str:
    """The metric on the test split by which a config chooses its best checkpoint."""
    best = importlib.import_module(f"configs.{config}").get_config().train.best
    return best.replace("dev/", "test/", 1)


def replaced(readme: str, content: str) -> str:
    """The README with this content between the two marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


if __name__ == "__main__":
    main()
