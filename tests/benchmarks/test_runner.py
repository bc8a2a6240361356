"""Selection of benchmarks on the command line, and the tables of recorded runs."""

import json
import re

import pytest

from benchmarks import __main__ as runner
from benchmarks import few_shot, table, transformer
from benchmarks.sentences import STEPS, real_tokens
from benchmarks.workloads import Benchmark, Measurement
from configs import snail_omniglot, transformer_base_wmt14
from results.table import replace_table
from training.errors import UserError

RESULT = {
    "device": "test device, 2 cores",
    "versions": {"jax": "1.0", "torch": "2.0"},
    "xla_flags": "",
    "benchmarks": [
        {
            "name": "ntm",
            "unit": "sequences",
            "rounds": 7,
            "implementations": {
                name: {
                    "throughput": 1000.0 / ratio,
                    "ratio": ratio,
                    "spread": 0.02,
                    "first_round_seconds": 5.0,
                    "peak_bytes": 2**30,
                    "flops_utilization": 0.34,
                }
                for name, ratio in {
                    "ours": 1.0,
                    "torch eager": 2.0,
                    "torch compiled": 1.25,
                    "products": 0.8,
                }.items()
            },
        }
    ],
    "measurements": [{"name": "loop", "rows": [{"overhead": 0.01234}, {"note": "none"}]}],
}


def test_names_are_unique_and_every_benchmark_has_ours_and_torch():
    entries = runner.declare(quick=True)
    names = [entry.name for entry in entries]
    assert len({*names}) == len(names)
    benchmarks = [entry for entry in entries if isinstance(entry, Benchmark)]
    assert len(benchmarks) > 5
    for benchmark in benchmarks:
        assert {name.split()[0] for name in benchmark.implementations} == {"ours", "torch"}
        assert benchmark.items > 0


def test_batches_of_the_papers_sizes_need_a_gpu(monkeypatch):
    def sizes(has_gpu, quick):
        for module in (transformer, few_shot):
            monkeypatch.setattr(module, "has_nvidia_gpu", lambda: has_gpu)
        tokens = real_tokens(transformer.padded(transformer.sizes(quick)["base"])) / STEPS
        return tokens, few_shot.make_configs(quick)["omniglot"].batch

    packing = transformer_base_wmt14.get_config().packing
    tokens, episodes = sizes(has_gpu=True, quick=False)
    assert tokens == pytest.approx(packing.rows * packing.target_length, rel=0.01)
    assert episodes == snail_omniglot.get_config().batch
    for has_gpu in (False, True):
        full, quick = (sizes(has_gpu, quick) for quick in (False, True))
        assert quick < full <= (tokens, episodes)
        assert (full == (tokens, episodes)) == has_gpu


def test_name_selects_all_entries_that_begin_with_it():
    names = ("seq2seq/large/beam", "seq2seq/small/beam", "seq2seq2", "loop")
    entries = [Measurement(name, list) for name in names]
    selected = lambda *names: [entry.name for entry in runner.select(entries, names)]
    assert selected() == list(names)
    assert selected("seq2seq") == ["seq2seq/large/beam", "seq2seq/small/beam"]
    assert selected("seq2seq/small", "loop") == ["seq2seq/small/beam", "loop"]
    with pytest.raises(UserError, match="Unknown benchmark 'seq'; choose from seq2seq/large/beam,"):
        selected("loop", "seq")


def test_only_complete_runs_have_a_default_file():
    path = runner.default_path("AMD EPYC 9B14, 2 cores")
    assert (path.parent, path.name) == (table.RESULTS, "amd_epyc_9b14_2_cores.json")


def test_tables_of_the_readme_are_up_to_date():
    text = table.README.read_text("utf-8")
    assert replace_table(text, table.format_results()) == text


def test_recorded_run_changes_the_tables(tmp_path, monkeypatch):
    before = table.format_results()
    (tmp_path / "device.json").write_text(json.dumps(RESULT))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    after = table.format_results()
    assert after != before
    assert "### test device, 2 cores" in after
    row = next(line for line in after.splitlines() if line.startswith("| ntm"))
    cells = re.split(r" *\| *", row.strip("| "))
    assert cells[:5] == ["ntm", "1,000 sequences", "800 compiled", "1.25", "2% / 2%"]
    assert cells[5:] == ["80%", "34.0%", "5.0 s / 5.0 s", "1.00 GiB / 1.00 GiB"]
    assert "| 0.01234 |  |" in after


def test_console_has_a_row_for_every_implementation():
    benchmarks, measurement = runner.tables(RESULT)
    assert benchmarks.row_count == 4
    assert measurement.title == "loop"
