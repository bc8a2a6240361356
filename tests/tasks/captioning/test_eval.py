"""`eval.py --caption` on a run of the scenes."""

import jax
import numpy as np
import pytest
from PIL import Image

import tasks
from configs import captioning_scenes
from tasks.captioning.task import Captioning
from tests.commands import run_in_process
from tests.models.tiny import unoptimized_jit
from training import run
from training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def scenes_run(tmp_path_factory):
    """Run directory with the initial state of a caption generator."""
    config, workdir = captioning_scenes.get_config("smoke"), tmp_path_factory.mktemp("scenes")
    config.model.encoder.update(patch=8, widths=(8,))  # one convolution, which compiles fast
    run.open_workdir(config, str(workdir))
    key = jax.random.key(0)
    state = unoptimized_jit(tasks.build(config, str(workdir)).init)(key)
    checkpoints = Checkpoints.from_config(str(workdir), config.train)
    checkpoints.save(0, state, key, 0.0)
    checkpoints.close()
    return workdir


def caption(workdir, path):
    return run_in_process("eval.py", f"--workdir={workdir}", f"--caption={path}")


def test_figure_of_a_path_without_a_name_is_beside_its_directory(scenes_run, tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "a.png")
    done = caption(scenes_run, f"{folder}/more/..")
    assert done.code == 0, done.errors
    assert (tmp_path / "photos.attention.png").exists()


def test_file_and_folder_have_the_same_captions_and_a_figure_each(scenes_run, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "._a.png").write_bytes(b"metadata of macOS")
    together = caption(scenes_run, folder)
    assert together.code == 0, together.errors
    first, second = together.output.splitlines()
    alone = caption(scenes_run, folder / "a.png")
    assert alone.code == 0, alone.errors
    assert first == f"a.png: {alone.output.strip()}"
    assert second.startswith("b.jpg: ")
    for figure in (tmp_path / "photos.attention.png", folder / "a.png.attention.png"):
        with Image.open(figure) as image:
            assert image.width > image.height > 100
    assert caption(scenes_run, folder).output == together.output  # figures are no inputs


def test_captions_do_not_need_the_training_data(scenes_run, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
    monkeypatch.setattr(Captioning, "dataset", property(lambda self: pytest.fail("data is read")))
    done = caption(scenes_run, path)
    assert (done.code, len(done.output.splitlines())) == (0, 1), done.errors


@pytest.mark.parametrize(
    "name, message",
    [
        ("notes.txt", "notes.txt is not a readable image"),
        ("missing.png", "Cannot read .*missing.png (No such file or directory)"),
        ("empty", "empty has no images (.png, .jpg"),
        (
            "occupied.png",
            "Cannot write the figure to .*occupied.png.attention.png: copy",
        ),
    ],
)
def test_input_without_images_is_an_error(name, message, scenes_run, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "occupied.png.attention.png").mkdir()
    done = caption(scenes_run, tmp_path / name)
    assert done.code == 2
    [line] = done.errors.splitlines()
    assert line.startswith("error: ")
    for part in message.split(".*"):
        assert part in line


def test_only_one_input_is_accepted(scenes_run, tmp_path):
    done = run_in_process(
        "eval.py", f"--workdir={scenes_run}", f"--caption={tmp_path}", "--translate=one"
    )
    assert done.code == 2
    assert (
        "Pass only one of --translate, --instance, --caption, --view, --export and --json"
        in done.errors
    )
