"""The documentation names files and commands that exist, and its examples run."""

import re
import textwrap
from unittest import mock

import pytest
from ml_collections import ConfigDict

from tests.commands import ROOT, fast_compilation
from training.loop import fit

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "AGENTS.md")


def python_examples(document):
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```", text, re.M | re.S)
    return [textwrap.dedent(block) for _, block in blocks]


@pytest.mark.parametrize("example", python_examples("README.md"))
def test_example_of_the_readme_runs(example, tmp_path, monkeypatch):
    """`fit` is mocked, because other tests call it with the same config."""
    monkeypatch.chdir(tmp_path)
    with mock.patch("training.loop.fit", autospec=fit) as mocked:
        exec(example, {})
    assert mocked.called or "assert" in example


def test_example_task_of_contributing_trains(tmp_path, monkeypatch):
    """The task is a module outside of the repository."""
    import tasks

    (example,) = [x for x in python_examples("CONTRIBUTING.md") if "Supervised" in x]
    (tmp_path / "example_task.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    (config_example,) = [x for x in python_examples("CONTRIBUTING.md") if "ConfigDict" in x]
    namespace = {"ConfigDict": ConfigDict}
    exec(config_example, namespace)
    config = namespace["config"]
    config.task = "example_task"
    workdir = str(tmp_path / "run")
    task = tasks.build(config, workdir)
    assert type(task).__module__ == "example_task"
    with fast_compilation():
        summary = fit(task, config, workdir)
    assert summary["metrics"]["test/error"] < 0.1


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_make_targets_exist(document):
    text = re.sub(r"^ *```python\n.*?```", "", (ROOT / document).read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^):]+)\)", text)
    paths = re.findall(r"(?<![\w*/.-])[\w/.-]+\.(?:py|txt)\b", text)
    files = {file for file in (*links, *paths) if "name" not in file}  # such as configs/name.py
    assert len(files) > 3
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.M)) <= set(targets)
