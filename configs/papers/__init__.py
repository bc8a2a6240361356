"""Rows of the papers' tables and figures, with the printed values that runs are compared with.

Each module of this package is one paper: `ROWS[place][row]` holds the printed values of a row by
metric, and is empty for a figure without numbers. A row is named 'PAPER/PLACE/ROW', such as
'vinyals2015/table 2/n = 10'. Configs name the rows that they reproduce in `config.rows`, runs of
sweeps in `Run.rows`; `python -m results.coverage` lists all rows with their commands and results.

Systems that a table quotes from other papers have no row, except for references that the evaluation
computes as well, such as the Gittins index.
"""

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence


@functools.cache
def modules() -> Mapping[str, object]:
    """Import all papers, by name, such as 'vinyals2015'."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


@functools.cache
def rows() -> Mapping[str, Mapping[str, float]]:
    """Return the printed values of all rows by metric, in the order of the papers."""
    return {
        f"{paper}/{place}/{row}": values
        for paper, module in modules().items()
        for place, by_row in module.ROWS.items()  # type: ignore[attr-defined]
        for row, values in by_row.items()
    }


def printed(names: Sequence[str]) -> dict[str, float]:
    """Merge the printed values of rows, by metric.

    Raises:
        KeyError: if a row does not exist.
        ValueError: if two rows have different values of a metric.
    """
    merged: dict[str, float] = {}
    for name in names:
        for metric, value in rows()[name].items():
            if merged.setdefault(metric, value) != value:
                raise ValueError(f"row '{name}': {metric} is {value}, but {merged[metric]} above")
    return merged


def title(row: str) -> str:
    """Return authors and year of the paper of a row, from the docstring of its module."""
    doc = modules()[row.partition("/")[0]].__doc__
    assert doc is not None, row
    return doc.partition(",")[0]
