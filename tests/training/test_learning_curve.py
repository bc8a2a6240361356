"""Panels of the learning curve of a run."""

import matplotlib.pyplot as plt
import pytest

from training import learning_curve

LINES = [
    {"step": 1, "loss": 50.0},
    {"step": 2, "loss": 0.5},
    {"step": 2, "dev/acc": 0.0, "dev/constant": 3.0, "dev/large": 10_001.0},
    {"step": 4, "dev/acc": 0.9, "dev/constant": 3.0, "dev/large": 10_002.0},
    {"step": 4, "dev/nan": float("nan"), "test/acc": 0.8},
]


@pytest.fixture
def panels():
    figure = learning_curve.plot(LINES, {"test/acc": 0.85, "test/absent": 1.0})
    figure.canvas.draw()
    yield {axes.get_title(): axes for axes in figure.axes if axes.axison}
    plt.close("all")


def test_panels_are_the_loss_and_the_metrics_that_change(panels):
    assert list(panels) == ["training loss", "acc", "large"]


def test_dev_test_and_published_values_are_separate_lines(panels):
    lines = {line.get_label(): line.get_xydata().tolist() for line in panels["acc"].lines}
    assert lines["dev"] == [[2, 0], [4, 0.9]] and lines["test"] == [[4, 0.8]]
    assert {y for _, y in lines["paper (test)"]} == {0.85}


def test_axis_is_logarithmic_for_positive_values_that_span_decades(panels):
    scales = {name: axes.get_yscale() for name, axes in panels.items()}
    assert scales == {"training loss": "log", "acc": "linear", "large": "linear"}


def test_labels_of_a_linear_axis_are_values_without_an_offset(panels):
    axes = panels["large"]
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert any(label.get_text().startswith("1000") for label in axes.get_yticklabels())


def test_run_without_metrics_has_an_empty_page():
    assert all(not axes.lines for axes in learning_curve.plot([]).axes)
