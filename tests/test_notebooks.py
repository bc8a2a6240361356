"""Notebooks: the two files of each pair agree, and the repository stores no output.

`make docs` executes them as pages of the documentation.
"""

import sys
import types
from unittest import mock

import jupytext
import pytest

from tests.commands import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


@by_name
def test_both_files_of_a_notebook_agree(path):
    notebook = jupytext.read(path.with_suffix(".ipynb"))
    assert cells(notebook) == cells(jupytext.read(path))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_every_notebook_has_two_files():
    assert [path.stem for path in NOTEBOOKS] == ["pointer_network", "scores"]
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {
        path.stem for path in NOTEBOOKS
    }


@pytest.mark.parametrize("in_colab", [False, True])
@by_name
def test_first_cell_installs_only_in_colab(path, in_colab, monkeypatch):
    first = next(cell for cell in jupytext.read(path).cells if cell.cell_type == "code")
    if in_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(sys, "path", [])
    with mock.patch("subprocess.run") as run:
        exec(first.source, {"input": lambda _: "address"})
    commands = [call.args[0][:2] for call in run.mock_calls]
    assert commands == ([["git", "clone"], [sys.executable, "-m"]] if in_colab else [])
    assert sys.path == ["/content/attention-atlas" if in_colab else ".."]
