"""Images of any source come as they are asked for, in an order that the seed alone decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tasks.image_generation.data.augment import Augment, prepare
from tasks.image_generation.data.images import Held, RandomBatches, first_batches, fit, load
from training.errors import UserError
from training.prefetch import prefetch


def held(count):
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return Held(pixels, np.arange(count), ("a",))


def test_the_middle_square_is_brought_to_size_by_means_of_areas():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = np.arange(16).reshape(4, 4, 1) * 10  # what is beside the square is black
    expected = pixels[:, 2:6].reshape(2, 2, 2, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(fit(Image.fromarray(pixels), 2, 3), expected)
    assert fit(Image.fromarray(pixels), 2, 1).shape == (2, 2, 1)


def test_digits_are_all_there_once():
    found = load("digits", 8, 1)
    assert len(found["train"]) + len(found["test"]) == 1797
    assert found["train"].images.shape[1:] == (8, 8, 1)
    rows = np.concatenate([part.images.reshape(len(part), -1) for part in found.values()])
    assert len(np.unique(rows, axis=0)) > 1790
    counts = np.bincount(found["train"].labels)
    assert len(counts) == 10 and counts.min() > 120


def test_every_epoch_has_every_image_once_and_any_start_gives_the_same():
    batches = RandomBatches(held(12), 4, seed=3)
    seen = [batches[n]["label"] for n in range(6)]
    assert sorted(np.concatenate(seen[:3])) == sorted(np.concatenate(seen[3:])) == list(range(12))
    assert not np.array_equal(seen[:3], seen[3:])
    assert not np.array_equal(
        seen[:3], [RandomBatches(held(12), 4, 4)[n]["label"] for n in range(3)]
    )
    for start in (0, 2, 4):
        found = prefetch(RandomBatches(held(12), 4, seed=3), start)
        for n in range(start, 6):
            batch = next(found)
            np.testing.assert_array_equal(batch["label"], seen[n])
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], seen[n])
        found.close()


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(UserError, match="batch=4 is more than the 3 images"):
        RandomBatches(held(3), 4, 0)


def test_measures_see_the_first_images_and_begin_again_after_the_last():
    found = list(first_batches(held(5), 4, 7))
    assert [count for _, count in found] == [4, 3]
    labels = np.concatenate([batch["label"] for batch, _ in found])
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4, 0, 1, 2])


def write(folder, name, shade):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 9, 3), shade, np.uint8)).save(path)


def test_a_folder_with_its_own_split_and_classes(tmp_path):
    for name, shade in {"train/cat/a.png": 1, "train/dog/b.png": 2, "test/dog/c.png": 3}.items():
        write(tmp_path, name, shade)
    found = load("folder", 4, 3, dir=str(tmp_path))
    assert found["train"].classes == ("cat", "dog")
    items = [(int(x.mean()), label) for x, label in (found["train"][0], found["train"][1])]
    assert items == [(1, 0), (2, 1)]
    pixels, label = found["test"][0]
    assert pixels.shape == (4, 4, 3) and (int(pixels.mean()), label) == (3, 1)


def test_a_plain_folder_has_one_class_and_every_fifth_image_is_held_out(tmp_path):
    for n in range(10):
        write(tmp_path, f"{n}.png", n)
    found = load("folder", 4, 1, dir=str(tmp_path))
    assert [int(found["test"][i][0].mean()) for i in range(2)] == [4, 9]
    assert len(found["train"]) == 8 and found["train"].classes == ("",)


@pytest.mark.parametrize("held_out", ["val", "Test", None])
def test_parts_called_otherwise_are_not_taken_for_classes(held_out, tmp_path):
    for part in filter(None, ("train", held_out)):
        for n in range(5):
            write(tmp_path, f"{part}/cat/{n}.png", n)
    with pytest.raises(UserError, match="look like parts of a dataset, not like classes"):
        load("folder", 4, 3, dir=str(tmp_path))


def test_what_is_wrong_with_a_folder_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        load("folder", 4, 3, dir=str(tmp_path))
    for nowhere in ("", str(tmp_path / "nowhere")):
        with pytest.raises(UserError, match=f"data.dir='{nowhere}' is no folder"):
            load("folder", 4, 3, dir=nowhere)
    for n in range(5):
        write(tmp_path, f"{n}.png", n)
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png is no image that can be read"):
        load("folder", 4, 3, dir=str(tmp_path))["train"][0]
    with pytest.raises(UserError, match="not prepared in data.data_dir"):
        len(load("tfds", 4, 3, dataset="cifar10", data_dir=str(tmp_path), test="test")["train"])


STILL = Augment(0.0, 0.0, 0.0, False)


def changed(images, **changes):
    return np.asarray(prepare(jnp.asarray(images), STILL._replace(**changes), jax.random.key(0)))


def test_without_changes_bytes_become_numbers_between_minus_one_and_one():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(changed(images), images / 127.5 - 1.0, atol=1e-6)


def test_mirrored_images_are_the_same_or_the_other_way_round():
    images = np.random.default_rng(0).integers(0, 255, (64, 4, 4, 1), np.uint8)
    plain, found = changed(images), changed(images, flip=True)
    same = (found == plain).all((1, 2, 3))
    np.testing.assert_array_equal(found[~same], plain[~same][:, :, ::-1])
    assert 16 < same.sum() < 48


def test_a_dot_moves_no_further_than_said_and_a_disc_keeps_its_place_when_turned():
    images = np.zeros((32, 21, 21, 1), np.uint8)
    images[:, 10, 10] = 255
    found = changed(images, shift=3.0) + 1
    centres = np.stack(
        [(found.sum((2, 3)) * np.arange(21)).sum(1), (found.sum((1, 3)) * np.arange(21)).sum(1)]
    )
    moved = centres / found.sum((1, 2, 3)) - 10
    assert 2 < np.abs(moved).max() <= 3.001 and np.abs(moved).mean() > 1
    y, x = np.mgrid[:21, :21] - 10
    disc = np.broadcast_to((np.hypot(y, x) < 6)[..., None] * np.uint8(255), images.shape)
    difference = np.abs(changed(disc, rotate=45.0) - changed(disc))
    assert (
        difference[:, np.hypot(y, x) < 4].max() < 1e-4
        and difference[:, np.hypot(y, x) > 8].max() < 1e-4
    )


Y, X = np.mgrid[:31, :31] - 15


def grown(image, **changes):
    """Changes of 64 copies, dark as 0 and light as 1."""
    copies = np.broadcast_to(np.uint8(255 * image)[..., None], (64, 31, 31, 1))
    return (changed(copies, **changes)[..., 0] + 1) / 2


def test_a_spot_beside_the_middle_turns_about_it_as_far_as_said():
    found = grown(np.exp(-(Y**2 + (X - 8) ** 2) / 4), rotate=45.0)
    y, x = ((found * axis).sum((1, 2)) / found.sum((1, 2)) for axis in (Y, X))
    np.testing.assert_allclose(np.hypot(y, x), 8, atol=0.1)
    turned = np.rad2deg(np.arctan2(y, x))
    assert -45.5 < turned.min() < -35 and 35 < turned.max() < 45.5


def test_a_disc_grows_and_shrinks_as_far_as_said():
    disc = np.float32(np.hypot(Y, X) < 9)
    areas = grown(disc, scale=0.2).sum((1, 2)) / disc.sum()
    assert 0.8**2 - 0.01 < areas.min() < 0.7 and 1.35 < areas.max() < 1.2**2 + 0.01
