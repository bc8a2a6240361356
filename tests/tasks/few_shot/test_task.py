"""Few-shot classification."""

import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import tasks
from configs.snail_fewshot import get_config
from tasks.few_shot import datasets
from tasks.few_shot.task import FewShotClassification, mean_and_interval
from tests.commands import fast_compilation
from tests.tasks.few_shot.archives import write_archives
from training.errors import UserError
from training.loop import check_best

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


def test_test_episodes_do_not_depend_on_the_batch_size():
    results = []
    for batch in (4, 8):
        task = build(**{"batch": batch, "evaluation.episodes": 12})
        with fast_compilation():
            results.append(task.evaluate(task.init(KEY), "test"))
    assert results[0] == results[1]


def test_dropout_and_distortion_have_different_keys(monkeypatch):
    task, keys = build(), []

    def distort(images, key, strength):
        keys.append(jax.random.key_data(key).tolist())
        return images

    def classify(params, images, labels, dropout_key):
        keys.append(jax.random.key_data(dropout_key).tolist())
        return jax.numpy.zeros((*labels.shape[:1], 1, 5)), None

    monkeypatch.setattr("tasks.few_shot.task.random_affine", distort)
    monkeypatch.setattr(task, "_classify", classify)
    task.loss(None, jax.tree.map(jax.numpy.asarray, next(task.batches("train", 0))), KEY)
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.source", "letters", "Unknown data.source 'letters': choose one of glyphs, omniglot"),
        ("data.ways", 1, r"data.ways=1 must be from 2"),
        ("data.shots", (0, 1), r"data.shots=\(0, 1\) must be positive"),
        ("data.queries", 0, "data.queries=0 must be positive"),
        ("model.encoder", "vgg", "unknown encoder 'vgg': choose convolutional or residual"),
        ("data.shots", (9,), "must be from 2 to 0, .* the 10 images that 9 shots need"),
    ],
)
def test_invalid_value_is_an_error(key, value, message):
    with pytest.raises(UserError, match=message):
        build(**{key: value})


def test_best_metric_must_have_the_fewest_or_the_most_shots():
    task = build(**{"data.shots": (2, 3, 5)})
    for name in ("accuracy_2_shot", "accuracy_5_shot_ci95", "nearest_neighbor_5_shot"):
        check_best(task, f"dev/{name}")
    for name in ("accuracy_1_shot", "accuracy_3_shot", "accuracy_25_shot", "one_shot_error"):
        with pytest.raises(UserError, match=f"train.best='dev/{name}' is not a metric"):
            check_best(task, f"dev/{name}")


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


def test_runs_are_needed_if_there_are_no_test_classes(tmp_path):
    write_archives(tmp_path)
    small = {"data.source": "omniglot_small1", "data.data_dir": str(tmp_path), "data.ways": 20}
    assert "2, with 40 trials" in build(**small).describe()["one-shot runs"]
    for changes in ({"data.ways": 5}, {"data.shots": (2, 3)}):
        with pytest.raises(UserError, match=r"tested on the one-shot runs: add all_runs\.zip from"):
            build(**small | changes)
    (tmp_path / "all_runs.zip").unlink()
    with pytest.raises(UserError, match=r"tested on the one-shot runs: add all_runs\.zip from"):
        build(**small)


def test_plan_needs_no_images():
    config = get_config("smoke")
    with config.unlocked():
        config.data.update(source="omniglot_zips", data_dir="/nowhere", shots=(1, 3), queries=2)
    task = tasks.build_abstract(config, "")
    images, labels, targets = task.largest_batch()
    assert images.shape == (4, 2 * 3 + 2, 16, 16, 1)
    assert labels.shape == (4, 6) and targets.shape == (4, 2)
    with pytest.raises(UserError, match=r"images_background\.zip is not in"):
        task.validate()


def test_interval_is_of_the_mean_over_episodes():
    """Ten episodes of accuracy 0.5 +- 0.5: 1.96 x 0.5 / sqrt(10)."""
    metrics = mean_and_interval("accuracy", np.array([0.0, 1.0] * 5))
    assert metrics == {"accuracy": 0.5, "accuracy_ci95": pytest.approx(0.3099, abs=1e-4)}


def write_class_folders(root, splits=("train", "val", "test")):
    for i, split in enumerate(splits):
        for n in range(3):
            for image in range(2):
                path = root / split / f"n{i}{n}" / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((20, 24, 3), 30 * i + 10 * n + image, np.uint8)).save(path)
    return root


def test_class_folders_are_read_by_split(tmp_path):
    root = write_class_folders(tmp_path / "images")
    arguments = {"source": "image_folders", "image_size": 16}
    splits = datasets.load(data_dir=str(root), **arguments)
    assert list(splits) == ["train", "dev", "test"]
    for i, classes in enumerate(splits.values()):
        assert [images.shape for images in classes] == [(2, 16, 16, 3)] * 3
        means = [[int(x.mean()) for x in images] for images in classes]
        assert means == [[30 * i + 10 * n, 30 * i + 10 * n + 1] for n in range(3)]
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", root)
    for split, classes in datasets.load(data_dir=archive, **arguments).items():
        np.testing.assert_array_equal(classes, splits[split])
    shutil.rmtree(root / "val")
    with pytest.raises(UserError, match=r"has no images val/CLASS/x\.jpg: choose a directory"):
        datasets.load(data_dir=str(root), **arguments)


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
