"""Omniglot from its official archives."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks.few_shot import omniglot
from tests.tasks.few_shot.archives import (
    CHARACTERS,
    DRAWINGS,
    drawings,
    first_seed,
    png,
    write_archives,
    write_run,
)
from training.errors import UserError

OMNIGLOT = Path(__file__).parents[4] / "shared/data/omniglot"
needs_omniglot = pytest.mark.skipif(
    not OMNIGLOT.is_dir(), reason="Omniglot is not beside the repository"
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_archives(tmp_path_factory.mktemp("omniglot"))


@pytest.mark.parametrize("source", omniglot.ARCHIVES)
def test_each_alphabet_belongs_to_one_split(source, directory):
    splits = omniglot.load_classes(source, str(directory), 16)
    assert splits.keys() == {"train", "dev"} | ({"test"} if source == "omniglot_zips" else set())
    seen = set()
    for split, classes in splits.items():
        assert len(classes) == 4 * CHARACTERS * (2 if split == "test" else 1)
        assert all(images.shape == (DRAWINGS, 16, 16, 1) for images in classes)
        first = {images[0].tobytes() for images in classes}
        assert len(first) == len(classes) and not first & seen
        seen |= first


def test_rotations_are_classes_and_ink_is_255(directory):
    train = omniglot.load_classes("omniglot_small1", str(directory), 16)["train"]
    (ink,) = drawings(first_seed("images_background_small1"), 1)
    for rotation in range(4):
        np.testing.assert_array_equal(train[rotation][0, :, :, 0], np.rot90(ink, rotation) * 255)


def test_folder_with_the_content_of_an_archive_is_the_same_data(directory, tmp_path):
    name = "images_background_small2"
    zipfile.ZipFile(directory / f"{name}.zip").extractall(tmp_path)
    from_zip, from_folder = (
        omniglot.load_classes("omniglot_small2", str(root), 8) for root in (directory, tmp_path)
    )
    for split in from_zip:
        np.testing.assert_array_equal(from_zip[split], from_folder[split])


def test_missing_or_damaged_archive_is_an_error(directory, tmp_path):
    for missing in ("", str(tmp_path)):
        with pytest.raises(UserError, match=r"images_background\.zip is not in data\.data_dir='.*"):
            omniglot.load_classes("omniglot_zips", missing, 16)
        assert omniglot.load_runs(missing, 16) is None
    content = (directory / "images_background.zip").read_bytes()
    (tmp_path / "images_background.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"Cannot read the archive \S+images_background\.zip"):
        omniglot.load_classes("omniglot_zips", str(tmp_path), 16)
    with zipfile.ZipFile(tmp_path / "images_background_small1.zip", "w") as archive:
        archive.writestr("images_background_small1/Greek/character01/0001_01.png", b"no image")
    with pytest.raises(UserError, match=r"Greek/character01/0001_01\.png is not a readable image"):
        omniglot.load_classes("omniglot_small1", str(tmp_path), 16)
    with zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as archive:
        archive.writestr("run01/class_labels.txt", "run01/test/a.png run01/training/b.png\n")
    with pytest.raises(UserError, match="class_labels.txt does not list 20 drawings of 20 classes"):
        omniglot.load_runs(str(tmp_path), 16)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("run02/class_labels.txt", lambda x: x + b"one_word\n", "does not list 20 drawings"),
        ("run02/class_labels.txt", lambda x: x + b"three words \xe9\n", "does not list 20 draw"),
        ("run02/class_labels.txt", lambda x: x[: x.rindex(b"run02/test")], "does not list 20 draw"),
        ("run01/test/item03.png", lambda x: png(np.zeros((16, 16), np.uint8)), "item03.png is bla"),
    ],
)
def test_damaged_runs_are_reported(directory, tmp_path, name, change, message):
    with (
        zipfile.ZipFile(directory / "all_runs.zip") as whole,
        zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as damaged,
    ):
        for file in whole.namelist():
            content = whole.read(file)
            damaged.writestr(file, change(content) if file == name else content)
    with pytest.raises(UserError, match=message):
        omniglot.load_runs(str(tmp_path), 16)


def test_labels_of_the_runs_are_the_classes_of_their_training_images(directory):
    runs = omniglot.load_runs(str(directory), 16)
    episodes = runs.episodes()
    assert episodes.images.shape == (2, 40, 16, 16, 1)
    np.testing.assert_array_equal(episodes.labels, [range(20)] * 2)
    np.testing.assert_array_equal(episodes.targets, [[7 * i % 20 for i in range(20)]] * 2)


def test_hausdorff_distance_ignores_the_position_of_a_drawing(tmp_path):
    """A shifted drawing has distance zero; the last class has the drawing of another class."""

    def shifted(ink):
        return np.roll(np.pad(ink, 4), (3, -2), axis=(0, 1))

    classes = [(np.pad(ink, 4), shifted(ink)) for n in range(20) for ink in drawings(n, 1)]
    classes[19] = classes[19][0], classes[0][1]
    with zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as archive:
        write_run(archive, "run01", classes)
    runs = omniglot.load_runs(str(tmp_path), 24)
    errors = omniglot.hausdorff_errors(runs)
    np.testing.assert_array_equal(errors[0], runs.episodes().targets[0] == 19)


@needs_omniglot
def test_small_background_sets_have_five_alphabets():
    """Small set 1 has 136 characters, 2 has 156; one alphabet of each is held out."""
    for n, characters in ((1, (110, 26)), (2, (139, 17))):
        splits = omniglot.load_classes(f"omniglot_small{n}", str(OMNIGLOT), 8)
        assert tuple(len(splits[split]) / 4 for split in ("train", "dev")) == characters
        assert all(len(images) == 20 for classes in splits.values() for images in classes)


@pytest.mark.slow
@needs_omniglot
def test_hausdorff_error_of_the_official_runs_is_the_published_one():
    """Lake et al. distribute the runs with a demo whose error is 38.8%."""
    runs = omniglot.load_runs(str(OMNIGLOT), 8)
    assert runs.labels.shape == (20, 40)
    assert omniglot.hausdorff_errors(runs).mean() == pytest.approx(0.388, abs=6e-4)
