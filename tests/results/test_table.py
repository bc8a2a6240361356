"""Tests of the tables of results."""

import json

import pytest

from configs import papers
from results import table
from results.commands import Command

SUMMARY = {
    "config": "transformer_multi30k",
    "metrics": {"test/bleu": 35.14159, "test/bleu_tok_lc": 40.1, "test/chrf": 60.0},
    "paper": {},  # the table has the current values, not the recorded ones
    "steps": 8000,
    "seconds": 3665,
    "seed": 3,
    "device": "test device",
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Summaries of a run and of a sweep with two seeds."""
    sweep = [
        SUMMARY | {"run": f"small-{seed}", "overrides": {"seed": seed}, "seed": seed, **changes}
        for seed, changes in ((3, {}), (4, {"metrics": {"test/bleu": 20.0}, "seconds": 5}))
    ]
    for name, content in (("single", SUMMARY), ("sweep", sweep)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    config, printed = SUMMARY["config"], {"test/bleu_tok_lc": 41.02}
    commands = {
        ("", config): Command(config, "", "", (), printed),
        ("sweep", "small"): Command(config, "sweep", "small", (), printed),
    }
    monkeypatch.setattr(table, "commands", lambda: commands)
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "selection_metric", lambda config: "test/bleu")


@pytest.mark.parametrize(
    "path, create",
    [(table.README, table.headline_table), (table.RESULTS / "README.md", table.full_table)],
)
def test_tables_are_up_to_date(path, create):
    text = path.read_text()
    assert table.replace_table(text, create()) == text, "run `make table`"


def test_selection_metric_is_read_from_the_config():
    assert table.selection_metric("transformer_nmt") == "test/exact_match"


def test_full_table_has_the_selection_metric_and_all_printed_metrics(results):
    assert table.full_table().splitlines()[2:] == [
        "| [single](single) | test/bleu | 35.14 | – | – | 8,000 | 1:01:05 | 3 | test device |",
        "| [single](single) | test/bleu_tok_lc | 40.1 | 41.02 | -0.92 (miss) "
        "| 8,000 | 1:01:05 | 3 | test device |",
        "| [sweep](sweep) small | test/bleu | 27.57 ± 11 | – | – "
        "| 8,000 | 30:35 | 3, 4 | test device |",
        "| [sweep](sweep) small | test/bleu_tok_lc | 40.1 | 41.02 | -0.92 (miss) "
        "| 8,000 | 30:35 | 3, 4 | test device |",
    ]


def test_further_seeds_of_a_run_share_its_row(results, tmp_path):
    other = SUMMARY | {"seed": 4, "metrics": {"test/bleu": 36.14159}, "seconds": 3667}
    (tmp_path / "single" / "summary_4.json").write_text(json.dumps(other))
    assert table.full_table().splitlines()[2] == (
        "| [single](single) | test/bleu | 35.64 ± 0.71 | – | – | 8,000 | 1:01:06 | 3, 4 "
        "| test device |"
    )


def test_time_and_steps_include_the_run_whose_weights_a_run_started_from(results, tmp_path):
    first = SUMMARY | {"steps": 2000, "seconds": 35}
    (tmp_path / "single" / "first_run.json").write_text(json.dumps(first))
    assert table.full_table().splitlines()[2] == (
        "| [single](single) | test/bleu | 35.14 | – | – | 2,000 + 8,000 | 1:01:40 (two runs) | 3 "
        "| test device |"
    )


def test_seed_is_removed_from_the_name_of_a_run_only_after_a_hyphen(tmp_path, monkeypatch):
    """A seed on the command line of a sweep is in the overrides of runs without seeds in names."""
    names = ("n_5", "n_50", "5-0", "5-10", "0")
    sweep = [SUMMARY | {"run": name, "overrides": {"seed": 0}, "seed": 0} for name in names]
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "summary.json").write_text(json.dumps(sweep))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    found = [group.run for group in table.read_groups()]
    assert found == ["n_5", "n_50", "5", "5-10", ""]


def test_headline_table_compares_results_with_the_papers(results, monkeypatch):
    metric = "test/bleu_tok_lc"
    headlines = (
        table.Headline("a2017/table 1/x", "translation", metric, "single"),
        table.Headline("b2018/table 2/y", "translation", metric, "sweep", "small"),
    )
    rows = {"a2017/table 1/x": {metric: 41.02}, "b2018/table 2/y": {metric: 40}}
    monkeypatch.setattr(papers, "rows", lambda: rows)
    monkeypatch.setattr(papers, "title", lambda row: {"a": "A 2017", "b": "B 2018"}[row[0]])
    monkeypatch.setattr(table, "HEADLINES", headlines)
    columns = "BLEU (tokenized, lower-cased)"
    assert table.headline_table().splitlines()[2:] == [
        f"| A 2017 | translation | {columns} | 41.02 | 40.1 | -0.92 (miss) "
        "| [single](results/single) | test device | 1:01:05 |",
        f"| B 2018 | translation | {columns} | 40 | 40.1 | +0.1 (match) "
        "| [sweep](results/sweep) small | test device | 30:35 |",
    ]


@pytest.mark.parametrize(
    "ours, printed, metric, expected",
    [
        (6.1, 6.6, "test/reward", "-0.5 (miss)"),
        (7.1, 6.6, "test/reward", "+0.5 (better)"),
        (3.95, 3.88, "test/length_n20", "+0.07 (miss)"),
        (3.7, 3.88, "test/length_n20", "-0.18 (better)"),
        (2.87, 2.88, "test/length_n10", "-0.01 (match)"),  # within 1%
        (0.4, 0, "test/bits_per_sequence", "+0.4 (match)"),  # rounds to 0
        (0.6, 0, "test/bits_per_sequence", "+0.6 (miss)"),
        (1.4, 2.0, "test/excess_bits", "-0.6 (better)"),
        (0.24, 0.31, "test/one_shot_error", "-0.07 (better)"),
        (0.26, 0.30, "test/one_shot_error", "-0.04 (better)"),
        (2.04, 2.0, "test/bits_per_sequence", "+0.04 (match)"),  # rounds to 2.0
    ],
)
def test_difference_from_the_printed_value_is_classified(ours, printed, metric, expected):
    assert table.compare([ours], printed, metric) == expected


def test_only_the_text_between_the_markers_is_replaced():
    text = f"a\n{table.BEGIN}\nold\n{table.END}\nb"
    assert table.replace_table(text, "new") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb"
