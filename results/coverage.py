"""Write `docs/coverage.md`: the rows of the papers with their commands and results.

    python -m results.coverage

Rows and printed values are in `configs.papers`; `config.rows` and `Run.rows` name the rows that a
command reproduces.
"""

import re
from collections.abc import Iterator

from configs import papers
from results import table
from results.commands import Command, commands, module_names, reason_without_row
from results.plans import PLANS_DIR
from results.table import Group
from training.console import format_mean, format_rows

PAGE = table.RESULTS.parent / "docs" / "coverage.md"
INTRODUCTION = """\
# Tables and figures of the papers

Every row of the papers for which this repository has a command: `NAME` is
`python train.py --config=configs/NAME.py`, and `NAME: RUN` is the run RUN of
`python sweep.py --sweep=configs/sweeps/NAME.py`. The docstrings of these files state what the
commands need and how they differ from the paper. `python -m results.coverage` writes this page.

Status: *trained* if runs are recorded in [results/](../results/README.md); otherwise *smoke*, which
means that the tests train and evaluate the config at a tiny size, and trace the training step of
every run of a sweep. *Plan*: the training step at full size compiles for the hardware, with the
given peak memory per device and an estimate of the training time at 40% of peak FLOP/s; small
recurrent models take much longer ([results/plans](../results/plans/README.md)). Results are in the
order of the recorded runs; the printed value is in parentheses. The prefix `test/` of a metric is
omitted. A prefix such as `maze_3d/` names the paper's data, for which no results are recorded. A
prefix such as `sampling/` names another evaluation of the same run.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """Return the Markdown page."""
    parts = [INTRODUCTION]
    by_row = commands_by_row()
    groups = {group.key: group for group in reversed(list(table.read_groups()))}
    for name, module in papers.modules().items():
        title, _, notes = (module.__doc__ or "").partition(".\n")
        title = title.removesuffix(".")
        header = ("table or figure", "row", "command", "status", "result (printed)")
        rows = [
            format_row(row, by_row.get(row, []), groups)
            for row in papers.rows()
            if row.startswith(f"{name}/")
        ]
        parts.append(f"## {' '.join(title.split())}\n")
        if notes.strip():
            parts.append(f"{' '.join(notes.split())}\n")
        parts.append(f"{format_rows(header, rows)}\n")
    parts.append("## Configs and sweeps without a printed row\n")
    parts.append(f"{format_rows(('file', 'reason'), list(without_row()))}\n")
    return "\n".join(parts)


def commands_by_row() -> dict[str, list[Command]]:
    """Return the commands of each row, configs before sweeps."""
    found: dict[str, list[Command]] = {}
    for command in commands().values():
        for row in command.rows:
            found.setdefault(row, []).append(command)
    return found


def format_row(
    row: str, row_commands: list[Command], groups: dict[tuple[str, str], Group]
) -> tuple[str, ...]:
    """Format a row with the results of all recorded runs of its commands."""
    keys = [(x.sweep, x.run) if x.sweep else ("", x.config) for x in row_commands]
    recorded = [groups[key] for key in keys if key in groups]
    _, place, name = row.split("/", 2)
    status = [f"trained: [{x.folder}](../results/{x.folder})" for x in recorded] or ["smoke"]
    status += [plan for command in row_commands for plan in read_plans(command)]
    values = papers.rows()[row]
    results = [format_result(metric, value, recorded) for metric, value in values.items()]
    return (
        place,
        name,
        "<br>".join(map(format_command, row_commands)),
        "<br>".join(dict.fromkeys(status)),
        "<br>".join(results) or ("figure" if place.startswith("figure") else "–"),
    )


def format_command(command: Command) -> str:
    """Format a command as a link to its file."""
    if command.sweep:
        return f"[{command.sweep}](../configs/sweeps/{command.sweep}.py): `{command.run}`"
    return f"[{command.config}](../configs/{command.config}.py)"


def format_result(metric: str, printed: float, groups: list[Group]) -> str:
    """Format results with the printed value, such as 'length_n10 2.878 (2.88)'."""
    ours = ", ".join(format_mean(group.values(metric)) for group in groups) or "–"
    return f"{metric.removeprefix('test/')} {ours} ({printed:.6g})"


def read_plans(command: Command) -> Iterator[str]:
    """Yield hardware, peak memory and training time of the recorded plans of a config."""
    path = PLANS_DIR / f"{command.config}.md"
    if command.sweep or not path.exists():
        return
    for block in path.read_text("utf-8").split("```")[1::2]:
        hardware, memory, seconds = (
            re.search(pattern, block, re.MULTILINE)
            for pattern in (r"hardware  (.*)", r"total per device  (.*?),", r"[\d,]+ steps  (.*)")
        )
        if hardware and memory and seconds:
            days = parse_duration(seconds[1]) / 86_400
            time = f"{days:.2g} days" if days >= 0.01 else "less than 0.01 days"
            yield f"plan: {hardware[1]}, {memory[1]}, {time}"


def parse_duration(text: str) -> int:
    """Parse the output of `training.console.format_duration`: '1:01:05' -> 3665."""
    seconds = 0
    for part in text.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


def without_row() -> Iterator[tuple[str, str]]:
    """Yield the configs and sweeps whose docstring says why they reproduce no row."""
    for package in ("configs", "configs.sweeps"):
        for name in module_names(package):
            path = f"{package.replace('.', '/')}/{name}.py"
            if reason := reason_without_row(package, name):
                yield f"[{path}](../{path})", reason


if __name__ == "__main__":
    main()
