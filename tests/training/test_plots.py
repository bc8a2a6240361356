"""Tests of the figures of sweeps."""

import io
from functools import partial

import pytest

from training import plots
from training.sweeps import Result, Run


def summary(**metrics):
    return {"metrics": {name.replace("__", "/"): x for name, x in metrics.items()}}


@pytest.mark.parametrize(
    "figure",
    [
        partial(plots.metric_bars, metrics=["m"]),
        partial(plots.metric_heatmap, metric="m", rows="a", columns="b"),
        partial(plots.metric_by_length, metric="m"),
        partial(plots.learning_curves, metric="m", panels="a", lines="b", unit="sequences"),
    ],
)
def test_figures_without_results_are_empty(figure):
    failed = [Result(Run("", {"a": a, "b": "x"}, {}), None) for a in ("u", "v")]
    for results in ([], failed):
        lines = [line for axes in figure(results).axes for line in axes.lines]
        assert not any(len(line.get_xdata()) for line in lines)
    figure([]).savefig(io.BytesIO())


def test_metric_bars_show_means_and_paper_values():
    results = [
        Result(Run("", {"score": "dot", "seed": 0}, {}, {"a": 3.0}), summary(a=1.0)),
        Result(Run("", {"score": "dot", "seed": 1}, {}, {"a": 3.0}), summary(a=2.0)),
        Result(Run("", {"score": "general", "seed": 0}, {}), None),
    ]
    (axes,) = plots.metric_bars(results, ["a"]).axes
    assert [bar.get_width() for bar in axes.patches] == [1.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dot", "general"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1.0, 2.0], [3.0]]


def test_metric_heatmap_shows_values_and_missing_cells():
    results = [
        Result(Run("", {"score": s, "alignment": a}, {}), summary(m=x) if x else None)
        for s, a, x in (("dot", "soft", 1.0), ("dot", "hard", 0.5), ("general", "soft", None))
    ]
    axes = plots.metric_heatmap(results, "m", "score", "alignment").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "0.5", "–", "–"]
    # Dark cells have white text; missing cells are white.
    assert [text.get_color() for text in axes.texts] == ["k", "w", "k", "k"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["soft", "hard"]


def test_metric_by_length_plots_bin_centers():
    metrics = {"test/m_2-3": 1.0, "test/m_4-7": 0.5, "test_long/m_8-8": 0.2, "test/m": 0.7}
    results = [Result(Run("", {"attention": "none"}, {}), {"metrics": metrics})]
    (axes,) = plots.metric_by_length(results, "m").axes
    assert [list(map(tuple, line.get_xydata())) for line in axes.lines] == [
        [(2.5, 1.0), (5.5, 0.5)],
        [(8.0, 0.2)],
    ]


def test_learning_curves_are_means_over_repetitions_by_example_count():
    """Each step has 16 examples."""

    def result(seed, values):
        lines = [{"step": 1, "loss": 9.0, "items": 16.0}]
        lines += [{"step": step, "dev/bits": bits} for step, bits in values.items()]
        labels = {"task": "copy", "model": "LSTM", "seed": seed}
        return Result(Run("", labels, {}, {"test/bits": 2.0}), None, lines)

    results = [result(0, {10: 4.0, 20: 3.0}), result(1, {10: 6.0})]
    figure = plots.learning_curves(results, "bits", panels="task", lines="model", unit="sequences")
    (axes,) = figure.axes
    curve, paper = axes.lines
    assert list(map(tuple, curve.get_xydata())) == [(160.0, 5.0), (320.0, 3.0)]
    assert set(paper.get_ydata()) == {2.0} and axes.get_yscale() == "linear"
