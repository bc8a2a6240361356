"""README and CONTRIBUTING say what is so."""

import json
import re

import pytest

from results import table
from tests.training.runs import ROOT

PAPERS = ("README.md", "CONTRIBUTING.md")


def blocks(language):
    """Code blocks of the README."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_the_example_runs_and_its_assertions_hold():
    (example,) = blocks("python")
    assert "assert" in example
    exec(example, {})


@pytest.mark.parametrize("paper", PAPERS)
def test_files_and_targets_exist(paper):
    text = (ROOT / paper).read_text()
    named = {*re.findall(r"\]\(([^):]+)\)", text), *re.findall(r"\b[\w/.-]+\.(?:py|txt)\b", text)}
    named = {name for name in named if "name" not in name}  # of what is yet to be written
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.M)) <= set(targets)


def test_the_table_of_results_is_the_one_made_from_the_runs_on_record():
    readme = (ROOT / "README.md").read_text()
    assert table.replaced(readme, table.table()) == readme, "run `make table`"


def test_the_table_has_what_the_paper_prints_and_what_the_run_is_judged_by(tmp_path, monkeypatch):
    run = {
        "config": "transformer_multi30k",
        "metrics": {"test/bleu": 35.14159, "test/bleu_tok_lc": 40.1, "test/chrf": 60.0},
        "paper": {"test/bleu_tok_lc": 41.02},
        "steps": 8000,
        "seconds": 3665,
        "seed": 3,
        "device": "an abacus",
    }
    other = run | {"seed": 4, "seconds": 5, "metrics": {"test/bleu": 20.0}}
    for name, content in (("one", run), ("sweep", [run, other])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    one, rest = "| [one](results/one)", "8,000 | 1:01:05 | 3 | an abacus |"
    assert table.table().splitlines()[2:] == [
        f"{one} | test/bleu | 35.14 | – | {rest}",
        f"{one} | test/bleu_tok_lc | 40.1 | 41.02 | {rest}",
        "| [sweep](results/sweep), 2 runs | test/bleu | 20 to 35.14 | – "
        "| 8,000 | 1:01:10 | 3, 4 | an abacus |",
    ]


def test_only_what_stands_between_the_marks_is_replaced():
    readme = f"a\n{table.BEGIN}\nold\n{table.END}\nb"
    assert table.replaced(readme, "new") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb"
