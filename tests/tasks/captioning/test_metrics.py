"""Metrics of captions against counts by hand."""

import numpy as np
import pytest

from tasks.captioning import metrics


def test_bleu_of_two_captions_by_hand():
    captions = ["a red seven above a two", "a one"]
    references = [["a red seven above a blue two", "a two below a seven"], ["a one", "one"]]
    # Matches of n-grams: 8 of 8 words, 5 of 6 (not "a two" ... which the second reference has).
    values = metrics.bleu(captions, references)
    precisions = [8 / 8, 6 / 6, 3 / 4, 2 / 3]
    for n in range(1, 5):
        expected = 100 * np.prod(precisions[:n]) ** (1 / n)
        assert values[f"bleu_{n}"] == pytest.approx(expected)
    # The closest references have 7 or 5 words for 6, and 2 for 2; ties go to the shorter one.
    assert values["bleu_4_brevity"] == pytest.approx(values["bleu_4"])


def test_brevity_penalty_is_left_out_of_bleu_n():
    values = metrics.bleu(["a red seven above a"], [["a red seven above a small blue two"]])
    assert values["bleu_4"] == pytest.approx(100)
    assert values["bleu_4_brevity"] == pytest.approx(100 * np.exp(1 - 8 / 5))


def test_bleu_without_matches_is_zero():
    values = metrics.bleu(["one two three four"], [["five six seven eight"]])
    assert set(values.values()) == {0.0}


def test_exact_match_accepts_any_reference():
    assert metrics.exact_match(["a", "b", "c"], [["x", "a"], ["x"], ["c"]]) == pytest.approx(2 / 3)


def test_pointing_accuracy_by_hand():
    """A 2 x 2 map of an image of 16 pixels, whose positions have the centers 4 and 12."""
    boxes = np.array([[[0, 0, 8, 8], [8, 0, 16, 16]]])
    largest = np.array([[0, 3, 1, 0, 1]])
    weights = 0.1 + 0.6 * np.eye(4)[largest]
    objects = np.array([[0, 1, 1, -1, 0]])
    values = metrics.pointing_accuracy(
        weights,
        objects,
        np.array([[1, 1, 2, 0, 3]]),
        boxes,
        grid=(2, 2),
        size=16,
        classes=("other", "digit", "color", "size"),
        content=("digit", "color"),
    )
    assert values == pytest.approx(
        {
            "pointing": 2 / 3,
            "pointing_chance": (1 / 4 + 2 / 4 + 2 / 4) / 3,
            "pointing_digit": 1.0,
            "pointing_color": 0.0,
            "pointing_size": 0.0,
        }
    )


def test_pointing_accuracy_of_uniform_weights_is_chance():
    """Over all boxes of one position, the largest of equal weights is right as often as chance."""
    top, left = np.mgrid[:4, :4].reshape(2, 16, 1) * 8
    boxes = np.concatenate([top, left, top + 8, left + 8], -1)[:, None]
    values = metrics.pointing_accuracy(
        np.full((16, 1, 16), 1 / 16),
        np.zeros((16, 1), int),
        np.ones((16, 1), int),
        boxes,
        grid=(4, 4),
        size=32,
        classes=("other", "digit"),
        content=("digit",),
    )
    assert values["pointing"] == values["pointing_chance"] == pytest.approx(1 / 16)


def test_precision_of_zero_is_not_smoothed():
    values = metrics.bleu(["one two three four"], [["four three two one"]])
    assert values["bleu_1"] == pytest.approx(100)
    assert values["bleu_2"] == values["bleu_4"] == values["bleu_4_brevity"] == 0.0
