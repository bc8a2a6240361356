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
COLUMNS = ("run", "measure", "ours", "paper", "steps", "time", "seed", "device")


def main() -> None:
    """Rewrites the table and nothing else of the README."""
    README.write_text(replaced(README.read_text(), table()))


def table() -> str:
    """The table, a row for each measure that a paper prints or that a run is judged by."""
    rows = [row for path in sorted(RESULTS.glob("*/summary.json")) for row in rows_of(path)]
    if not rows:
        return "No run is on record yet."
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows))


def rows_of(path: Path) -> Iterator[tuple[str, ...]]:
    """Rows of a `summary.json`: a run's, or the list of a sweep's."""
    content = json.loads(path.read_text())
    for run in content if isinstance(content, list) else [content]:
        for measure in dict.fromkeys([headline(run["config"]), *run["paper"]]):
            yield (
                f"[{path.parent.name}](results/{path.parent.name}) {run.get('run', '')}".rstrip(),
                measure,
                figure(run["measures"], measure),
                figure(run["paper"], measure),
                f"{run['steps']:,}",
                duration(run["seconds"]),
                str(run["seed"]),
                run["device"],
            )


def figure(figures: dict[str, float], measure: str) -> str:
    """Four digits, or a dash where there is no such figure."""
    return f"{figures[measure]:.4g}" if measure in figures else "–"


def headline(config: str) -> str:
    """The measure on the test split by which a config chooses its best checkpoint."""
    best = importlib.import_module(f"configs.{config}").get_config().train.best
    return best.replace("dev/", "test/", 1)


def replaced(readme: str, content: str) -> str:
    """The README with this content between the two marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


if __name__ == "__main__":
    main()
