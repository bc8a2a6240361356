"""Few-shot classification: its pictures, its episodes, and that it can only learn from labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs.snail_fewshot import get_config
from tasks.few_shot import classes as pictures_by_class
from tasks.few_shot import glyphs
from tasks.few_shot.task import distort
from training.errors import UserError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def classes():
    return glyphs.glyphs(16)


def build(**changes):
    config = get_config("smoke")
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return tasks.build(config, "")


def test_scripts_of_training_and_test_are_disjoint(classes):
    sets = list(map(set, glyphs.SCRIPTS.values()))
    assert not any(a & b for n, a in enumerate(sets) for b in sets[:n])
    assert all(len(classes[split]) > 200 for split in ("train", "dev", "test"))


def test_no_two_classes_look_alike_and_each_has_examples(classes):
    """Not even of two splits, or training would have seen what it is asked."""
    found = [examples for split in classes.values() for examples in split]
    assert all(len(examples) > 1 and examples.max((1, 2)).min() > 0 for examples in found)
    flat = np.array([examples[0].reshape(-1) for examples in found], np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert (flat @ flat.T - np.eye(len(flat))).max() < glyphs.ALIKE + 1e-5


def test_turns_are_classes(classes):
    """Turned by a right angle, some class is another one."""
    known = {examples[0].tobytes() for examples in classes["test"]}
    turned = [np.rot90(examples[0]).tobytes() in known for examples in classes["test"]]
    assert np.mean(turned) > 0.5


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_episode_has_each_class_as_often_as_said(shuffled):
    """Pictures whose pixels are their class tell which is which."""
    numbered = [np.full((3, 2, 2), n, np.uint8) for n in range(9)]
    rng = np.random.default_rng(0)
    found = pictures_by_class.draw(numbered, rng, rows=50, ways=3, shots=2, shuffled=shuffled)
    labels, numbers = found.labels, found.pictures[:, :, 0, 0]
    assert labels.shape == (50, 7) and found.pictures.shape == (50, 7, 2, 2)
    np.testing.assert_array_equal(np.sort(labels[:, :-1], axis=1), [[0, 0, 1, 1, 2, 2]] * 50)
    same = []
    for told, shown in zip(labels, numbers, strict=True):
        assert len(set(shown)) == 3 and shown[-1] in shown[:-1]
        same.append(all(len(set(shown[told == way])) == 1 for way in range(3)))
    assert np.mean(same) == 1 if not shuffled else np.mean(same) < 0.3


def test_no_picture_is_twice_in_an_episode():
    """Least of all the one to be named; of classes with too few pictures there is none."""
    numbered = [
        np.arange(10 * n, 10 * n + size, dtype=np.uint8) for n, size in enumerate([4, 3] * 6)
    ]
    pictures = [np.broadcast_to(x[:, None, None], (len(x), 2, 2)) for x in numbered]
    rng = np.random.default_rng(0)
    found = pictures_by_class.draw(pictures, rng, rows=50, ways=3, shots=3, shuffled=False)
    for shown in found.pictures[:, :, 0, 0].tolist():
        assert len(set(shown)) == 10 and {number // 10 % 2 for number in shown} == {0}


def test_the_same_episodes_from_any_start():
    task = build()
    batches = task.batches("train", 0)
    for step in range(4):
        now, again = next(batches), next(task.batches("train", step))
        for x, y in zip(now, again, strict=True):
            np.testing.assert_array_equal(x, y)


def test_distortion_moves_ink_and_little_else(classes):
    pictures = jnp.asarray(np.stack([x[0] for x in classes["test"][:40]])[None])
    np.testing.assert_allclose(distort(pictures, KEY, 0.0), pictures / 255.0)
    found = jax.jit(lambda x: distort(x, KEY, 1.0))(pictures)
    ratio = found.sum((2, 3)) / (pictures / 255.0).sum((2, 3))
    assert ratio.min() > 0.5 and ratio.max() < 2.0 and abs(ratio.mean() - 1) < 0.1
    assert np.abs(found - pictures / 255.0).max() > 0.5


def test_bad_values_are_sentences():
    with pytest.raises(UserError, match="data.source 'letters' is not one of glyphs, omniglot"):
        build(**{"data.source": "letters"})
    with pytest.raises(UserError, match=r"data.ways=1 must be from 2"):
        build(**{"data.ways": 1})
    with pytest.raises(UserError, match=r"data.shots=\(0, 1\) must be of one example or more"):
        build(**{"data.shots": (0, 1)})
    with pytest.raises(UserError, match="must be from 2 to 0, .* the 10 examples that 9 shots"):
        build(**{"data.shots": (9,)})
    with pytest.raises(UserError, match="omniglot is not prepared in data.data_dir='/nowhere'"):
        build(**{"data.source": "omniglot", "data.data_dir": "/nowhere"})


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_it_learns_from_the_labels_that_it_is_shown(shuffled):
    """Two ways, one shot: letters never seen are named; with labels dealt out anyhow, by chance."""
    sizes = {
        "model.filters": 16,
        "model.embedding": 32,
        "model.blocks": "Att(16,16) TC(16) Att(16,16)",
    }
    data = {"data.shots": (1,), "data.batch": 64, "data.evaluated": 640, "data.distortion": 0.3}
    optimizer = {"optimizer.peak": 3e-3, "train.steps": 400}
    task = build(**sizes, **data, **optimizer, **{"data.shuffle_labels": shuffled})
    state, step, batches = task.init(KEY), jax.jit(task.train_step), task.batches("train", 0)
    for n in range(400):
        state, _ = step(state, next(batches), jax.random.fold_in(KEY, n))
    accuracy = task.evaluate(state, "test")["accuracy_1_shot"]
    assert abs(accuracy - 0.5) < 0.08 if shuffled else accuracy > 0.8
