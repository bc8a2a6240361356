"""Few-shot classification."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import tasks
from configs.snail_fewshot import get_config
from tasks.few_shot.task import FewShotClassification
from training.errors import UserError

KEY = jax.random.key(0)


def build(**changes):
    config = get_config("smoke")
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return tasks.build(config, "")


def test_batches_do_not_depend_on_the_start_step():
    task = build()
    batches = task.batches("train", 0)
    for step in range(4):
        for x, y in zip(next(batches), next(task.batches("train", step)), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.source", "letters", "Unknown data.source 'letters': choose glyphs or omniglot"),
        ("data.ways", 1, r"data.ways=1 must be from 2"),
        ("data.shots", (0, 1), r"data.shots=\(0, 1\) must be positive"),
        ("data.shots", (9,), "must be from 2 to 0, .* the 10 images that 9 shots need"),
    ],
)
def test_invalid_value_is_an_error(key, value, message):
    with pytest.raises(UserError, match=message):
        build(**{key: value})


def test_fingerprint_changes_if_an_image_is_edited_or_removed_from_a_training_or_dev_class():
    def fingerprint(**classes):
        return FewShotClassification.data_fingerprint(SimpleNamespace(classes=original | classes))

    original = {
        split: [np.zeros((3, 4, 4), np.uint8), np.ones((3, 4, 4), np.uint8)]
        for split in ("train", "dev", "test")
    }
    before = fingerprint()
    assert before["train"].startswith("2 classes (digest ")
    first, second = original["train"]
    edited = first.copy()
    edited[2, 3, 3] = 1
    for classes in ([edited, second], [first[:2], second], [second, first], [first]):
        for split in ("train", "dev"):
            after = fingerprint(**{split: classes})
            assert {name for name in before if after[name] != before[name]} == {split}
        assert fingerprint(test=classes) == before


def test_unprepared_omniglot_is_an_error():
    with pytest.raises(UserError, match="Omniglot is not prepared in data.data_dir='/nowhere'"):
        build(**{"data.source": "omniglot", "data.data_dir": "/nowhere"})


@pytest.mark.slow
@pytest.mark.parametrize("shuffle_labels", [False, True])
def test_accuracy_depends_on_the_support_labels(shuffle_labels):
    """Two ways, one shot: unseen letters are classified, but not with shuffled labels."""
    changes = {
        "model.filters": 16,
        "model.embedding": 32,
        "model.blocks": "Att(16,16) TC(16) Att(16,16)",
        "data.shots": (1,),
        "data.distortion": 0.3,
        "data.shuffle_labels": shuffle_labels,
        "batch": 64,
        "evaluation.episodes": 640,
        "optimizer.learning_rate": 3e-3,
        "train.steps": 400,
    }
    task = build(**changes)
    state, step, batches = task.init(KEY), jax.jit(task.train_step), task.batches("train", 0)
    for n in range(400):
        state, _ = step(state, next(batches), jax.random.fold_in(KEY, n))
    accuracy = task.evaluate(state, "test")["accuracy_1_shot"]
    assert abs(accuracy - 0.5) < 0.08 if shuffle_labels else accuracy > 0.8
