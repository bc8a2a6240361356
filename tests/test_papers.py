"""README and CONTRIBUTING say what is so."""

import re

import pytest

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
