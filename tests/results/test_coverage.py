"""Rows of the papers: each has a command, and each config names its rows."""

import pytest

from configs import papers
from results import commands, coverage, table
from results.commands import Command

FILES = [
    (package, name)
    for package in ("configs", "configs.sweeps")
    for name in commands.module_names(package)
]


def test_page_is_up_to_date():
    assert coverage.PAGE.read_text() == coverage.page(), "run `make table`"


def test_every_row_has_a_command_and_every_command_names_existing_rows():
    assert coverage.commands_by_row().keys() == papers.rows().keys()


@pytest.mark.parametrize("package, name", FILES)
def test_config_or_sweep_names_a_row_or_the_reason_why_not(package, name):
    """Exactly one of both, so that a reason does not outlive the first row."""
    is_own = lambda x: x.sweep == name if package == "configs.sweeps" else x[:2] == (name, "")
    has_rows = any(command.rows for command in commands.commands().values() if is_own(command))
    assert has_rows != bool(commands.reason_without_row(package, name))


@pytest.mark.parametrize("key", [key for key, x in commands.commands().items() if x.rows], ids=str)
def test_printed_values_are_those_of_the_rows(key):
    command = commands.commands()[key]
    assert command.paper == papers.printed(command.rows)


def test_recorded_summaries_have_no_other_printed_values():
    for group in table.read_groups():
        for summary in group.summaries:
            recorded = summary["paper"]
            assert {name: recorded[name] for name in recorded if name in group.paper} == {
                name: group.paper[name] for name in recorded if name in group.paper
            }


def test_rows_with_different_values_of_a_metric_cannot_be_merged(monkeypatch):
    rows = {"a/table 1/x": {"test/b": 1.0, "test/c": 2.0}, "a/table 1/y": {"test/b": 1.5}}
    monkeypatch.setattr(papers, "rows", lambda: rows)
    assert papers.printed(["a/table 1/x"]) == {"test/b": 1.0, "test/c": 2.0}
    with pytest.raises(ValueError, match="test/b is 1.5, but 1.0 above"):
        papers.printed(["a/table 1/x", "a/table 1/y"])


def test_row_shows_commands_and_results(monkeypatch):
    rows = {"a2015/table 1/x": {"test/bleu": 27.3, "wmt14/bleu": 26}}
    monkeypatch.setattr(papers, "rows", lambda: rows)
    own = Command("transformer_base_wmt14", "", "", tuple(rows), {})
    swept = Command("transformer_base_wmt14", "grid", "big", tuple(rows), {})
    summaries = [{"metrics": {"test/bleu": x}} for x in (25.0, 26.0)]
    groups = {("grid", "big"): table.Group("folder", "grid", "big", summaries)}
    place, name, command, status, result = coverage.format_row(
        "a2015/table 1/x", [own, swept], groups
    )
    assert (place, name) == ("table 1", "x")
    assert command == (
        "[transformer_base_wmt14](../configs/transformer_base_wmt14.py)<br>"
        "[grid](../configs/sweeps/grid.py): `big`"
    )
    assert status.startswith("trained: [folder](../results/folder)<br>plan: v5e:4x4, ")
    assert result == "bleu 25.5 ± 0.71 (27.3)<br>wmt14/bleu – (26)"


@pytest.mark.parametrize(
    "doc, expected",
    [
        (
            "A. No printed row: Graves et al. 2014 do not\nreport it. More.",
            "Graves et al. 2014 do not report it",
        ),
        ("A. No\nprinted row:\nthe corpus is generated.\n", "the corpus is generated"),
        ("A.", ""),
    ],
)
def test_reason_is_one_sentence_of_the_docstring(monkeypatch, doc, expected):
    monkeypatch.setattr(
        commands, "load", lambda package, name: type("Config", (), {"__doc__": doc})
    )
    assert commands.reason_without_row("configs", "x") == expected


def test_recorded_plan_is_read(tmp_path, monkeypatch):
    lines = "hardware  v5e:4x4, 16 x TPU", "total per device  1.74 GiB, 11%", "300 steps  12:01:05"
    text = "\n".join(("```", *lines, "```"))
    (tmp_path / "big.md").write_text(text)
    monkeypatch.setattr(coverage, "PLANS_DIR", tmp_path)
    assert [*coverage.read_plans(Command("big", "", "", (), {}))] == [
        "plan: v5e:4x4, 16 x TPU, 1.74 GiB, 0.5 days"
    ]
