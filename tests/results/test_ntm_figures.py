"""Figures of Graves et al. 2014 from the runs of a sweep."""

import numpy as np
import pytest

from configs.papers.graves2014 import CURVES, FEED_FORWARD, LSTM, LSTM_CONTROLLER, MODELS, OTHERS
from results import ntm_figures
from tasks.memory.task import Example
from training.errors import UserError
from training.sweeps import Result, Run


def make_example(split, memory_access=None):
    zeros = np.zeros((8, 3))
    return Example(split, f"{split}: length 8", zeros, zeros, zeros, memory_access)


@pytest.fixture
def runs(monkeypatch):
    """All runs of the sweep; their predictions are zeros."""
    access = np.zeros((8, 1, 2, 4)), np.zeros((8, 1, 1, 5)), np.zeros((8, 1, 1, 5))
    examples = [make_example("train", access), make_example("test_20"), make_example("test_120")]
    monkeypatch.setattr(ntm_figures, "examples", lambda workdir: examples)
    summary = {"metrics": {"test_6/bits_per_sequence": 1.0, "test_20/bits_per_sequence": 4.0}}
    lines = [{"step": 2, "items": 4, "dev/bits_per_sequence": 3.0}]
    return {
        (task, model): ("", Result(Run("", {"task": task, "model": model}, {}), summary, lines))
        for task, *_ in CURVES.values()
        for model in MODELS
    }


def test_every_figure_is_drawn_from_all_runs(runs):
    figures = dict(ntm_figures.draw(runs))
    assert sorted({int(name.split("_")[1]) for name in figures}) == sorted(CURVES | OTHERS)
    assert {"figure_06_NTM_LSTM", "figure_06_NTM_feed_forward"} <= figures.keys()


def draw(runs, task):
    return dict(ntm_figures.draw({key: runs[key] for key in runs if key[0] == task}))


def test_unfinished_runs_are_left_out(runs):
    only = {key: runs[key] for key in [("copy", LSTM), ("recall", FEED_FORWARD)]}
    assert [name for name, _ in ntm_figures.draw(only)] == [
        "figure_03",
        "figure_10",
        "figure_05",
        "figure_11",
        "figure_12_NTM_feed_forward",
    ]


def test_generalization_has_targets_and_outputs_beyond_the_training_range(runs):
    titles = [x.get_suptitle() for x in draw(runs, "repeat_copy")["figure_08"].subfigs]
    lengths = ("test_20: length 8", "test_120: length 8")
    assert titles == [f"{model}, {x}" for model in (LSTM_CONTROLLER, LSTM) for x in lengths]


def test_cost_is_plotted_against_the_number_of_items(runs):
    (axes,) = draw(runs, "recall")["figure_11"].axes
    assert [line.get_label() for line in axes.lines] == list(MODELS)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(6, 1.0), (20, 4.0)])


def test_optimal_predictions_count_the_bits_after_the_same_context():
    bits = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1.0])
    predictions = ntm_figures.optimal_predictions(bits)
    assert list(predictions[:6]) == [0.5] * 6  # no context, then the first after 00000
    assert predictions[11] == pytest.approx(1.5 / 2)  # a one followed 00000 before
    assert predictions[12] == pytest.approx(0.5 / 2)  # a zero followed 00001 before


def test_directory_without_finished_runs_is_an_error(tmp_path):
    with pytest.raises(UserError, match="has no finished run of configs/sweeps/ntm_tasks.py"):
        ntm_figures.main([str(tmp_path)])
    with pytest.raises(UserError, match="Usage: python -m results.ntm_figures SWEEP_DIR"):
        ntm_figures.main([])
