"""Scenes of digits and their captions."""

import itertools
import re

import numpy as np
import pytest

from tasks.captioning.data import scenes
from tasks.captioning.data.dataset import WORD_CLASSES

COUNT = 250
NAMES = [*scenes.PIXELS], [*scenes.COLORS], scenes.DIGITS
SIZED = rf"a (?:({'|'.join(NAMES[0])}) )?({'|'.join(NAMES[1])}) ({'|'.join(NAMES[2])})"
RELATIONS = {  # coordinate of the box, and whether the first object has the smaller one
    "above": (0, True),
    "below": (0, False),
    "left of": (1, True),
    "right of": (1, False),
}


@pytest.fixture(scope="module")
def sampled():
    return {split: scenes.sample(split, COUNT, seed=0) for split in scenes.SPLITS}


def pairs(sampled_scenes):
    visible = sampled_scenes.visible
    return {*zip(sampled_scenes.digits[visible], sampled_scenes.colors[visible], strict=True)}


def is_true(caption, objects):
    """Check a caption against (size, color, digit, box) of all objects, and nothing else."""
    mentioned = re.findall(SIZED, caption)
    centers = {
        names: (np.add(box[:2], box[2:]) / 2) for *names, box in objects for names in [tuple(names)]
    }
    if listed := re.fullmatch(
        rf"(two|three) digits from left to right ({SIZED}(?: then |$))+", caption
    ):
        ordered = sorted(centers, key=lambda names: centers[names][1])
        count = {"two": 2, "three": 3}[listed[1]]
        return count == len(objects) and [x[1:] for x in mentioned] == [x[1:] for x in ordered]
    (first, second), (relation,) = mentioned, re.findall("|".join(RELATIONS), caption)
    axis, smaller = RELATIONS[relation]
    return (centers[first][axis] < centers[second][axis]) == smaller


def test_captions_are_true(sampled):
    """The statement of every caption is derived again from the attributes and boxes."""
    for split in scenes.SPLITS:
        x = sampled[split]
        captions, _, _ = scenes.describe(x)
        boxes = x.boxes
        for n, count in enumerate(x.counts):
            names = [
                [table[i] for i in indices[n, :count]]
                for table, indices in zip(NAMES, (x.sizes, x.colors, x.digits), strict=True)
            ]
            objects = [*zip(*names, boxes[n, :count], strict=True)]
            assert len({*captions[n]}) == scenes.CAPTIONS == 5
            assert all(is_true(caption, objects) for caption in captions[n]), captions[n]


def test_relations_are_between_neighbors(sampled):
    """No third object is between the two in the direction of the relation."""
    x = sampled["train"]
    captions, word_objects, _ = scenes.describe(x)
    centers = (x.boxes[..., :2] + x.boxes[..., 2:]) / 2
    for n, axis_captions in enumerate(captions):
        for k, caption in enumerate(axis_captions[:4]):
            axis, _ = next(value for key, value in RELATIONS.items() if f" {key} " in caption)
            about = word_objects[n, k]
            first, second = dict.fromkeys(about[about >= 0])
            ranks = centers[n, : x.counts[n], axis].argsort().argsort()
            extreme = 0 if RELATIONS[[*RELATIONS][k]][1] else x.counts[n] - 1
            assert ranks[first] == extreme
            assert abs(ranks[first] - ranks[second]) == 1


def test_words_refer_to_objects_with_their_attributes(sampled):
    x = sampled["test"]
    captions, word_objects, word_classes = scenes.describe(x)
    tables = {
        name: (table, indices)
        for name, table, indices in zip(
            ("size", "color", "digit"), NAMES, (x.sizes, x.colors, x.digits), strict=True
        )
    }
    for n, k in itertools.product(range(COUNT), range(scenes.CAPTIONS)):
        words = captions[n][k].split()
        assert (word_objects[n, k, len(words) :] == -1).all()
        for t, word in enumerate(words):
            name, o = WORD_CLASSES[word_classes[n, k, t]], word_objects[n, k, t]
            assert (name == "other") == (o == -1)
            if o >= 0:
                table, indices = tables[name]
                assert o < x.counts[n]
                assert table[indices[n, o]] == word
        assert (word_classes[n, k] == WORD_CLASSES.index("digit")).sum() >= 2


def test_boxes_are_inside_and_overlap_by_at_most_a_tenth(sampled):
    largest = 0.0
    for x in sampled.values():
        for boxes, count in zip(x.boxes, x.counts, strict=True):
            assert (boxes[count:] == 0).all()
            assert boxes.min() >= 0 and boxes.max() <= scenes.CANVAS
            for a, b in itertools.combinations(boxes[:count], 2):
                height, width = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                overlap = max(height, 0) * max(width, 0)
                largest = max(largest, overlap / min((a[2] - a[0]) ** 2, (b[2] - b[0]) ** 2))
                distance = np.abs(a[:2] + a[2:] - b[:2] - b[2:]) / 2
                assert distance.min() >= 8
    assert 0.05 < largest <= 0.1


def test_held_out_pairs_occur_in_their_split_only(sampled):
    train, test, unseen = (pairs(sampled[split]) for split in ("train", "test", "test_unseen"))
    assert len(train) == 54 and len(unseen) == 6
    assert test <= train
    assert not unseen & (train | pairs(sampled["dev"]))
    assert {digit for digit, _ in unseen} < {digit for digit, _ in train}
    assert {color for _, color in unseen} == {color for _, color in train}


def test_digit_images_of_the_splits_are_disjoint(sampled):
    used = {split: {*x.glyphs[x.visible]} for split, x in sampled.items()}
    assert len(used["train"]) > 400
    assert not used["train"] & (used["dev"] | used["test"] | used["test_unseen"])
    assert not used["dev"] & used["test"]
    _, targets = scenes._handwriting()
    for x in sampled.values():
        np.testing.assert_array_equal(targets[x.glyphs], x.digits)


def test_pixels_of_an_object_have_its_color():
    """Each pixel that belongs to one box only is a multiple of the color, up to rounding."""
    x = scenes.sample("train", 40, seed=1)
    palette, boxes = np.array([*scenes.COLORS.values()]), x.boxes
    for n, image in enumerate(scenes.render(x).astype(int)):
        cover = np.zeros((scenes.CANVAS, scenes.CANVAS), int)
        for top, left, bottom, right in boxes[n]:
            cover[top:bottom, left:right] += 1
        assert (image[cover == 0] == 0).all()
        for o, (top, left, bottom, right) in enumerate(boxes[n, : x.counts[n]]):
            color = palette[x.colors[n, o]]
            pixels = image[top:bottom, left:right][cover[top:bottom, left:right] == 1]
            ink = pixels @ color / (color @ color)
            np.testing.assert_allclose(pixels, ink[:, None] * color, atol=1)
            assert ink.min() == 0 and ink.max() > 0.6


def test_splits_depend_on_their_seed_only():
    sizes = {"train": 30, "dev": 5, "test": 5}
    first, again = (scenes.load(**sizes, seed=3) for _ in range(2))
    other = scenes.load(**sizes, seed=4)
    for split in scenes.SPLITS:
        np.testing.assert_array_equal(first[split].inputs, again[split].inputs)
        assert first[split].captions == again[split].captions
        assert first[split].captions != other[split].captions
        assert len(first[split]) == {**sizes, "test_unseen": 5}[split]
    assert first["train"].inputs.shape == (30, 64, 64, 3)
    assert first["train"].grounding.word_objects.shape == (30, 5, scenes.MAX_WORDS)
    assert first["test"].captions != first["test_unseen"].captions
