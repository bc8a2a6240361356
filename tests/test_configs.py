"""Every config loads, has a docstring with its source, builds its task, and has no unused keys."""

import concurrent.futures
import contextlib
import importlib
import io
import json
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags
from PIL import Image

import tasks
from tasks.few_shot.omniglot import ARCHIVES
from tests import toy
from tests.commands import (
    ROOT,
    fast_compilation,
    record_config_reads,
    write_parallel_corpus,
    write_pronunciations,
)
from tests.tasks.captioning.data.karpathy_files import write_dataset
from tests.tasks.few_shot.archives import write_archives
from training import cli, run
from training.errors import UserError
from training.loop import fit

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.py"))
# Configs that are faster to evaluate than the first config of their task package.
EVALUATED = {
    "captioning": Path("configs/captioning_scenes.py"),
    "meta_rl": Path("configs/snail_maze.py"),
    "pointing": Path("configs/ptrnet_tsp5.py"),
    "translation": Path("configs/transformer_nmt.py"),
}
# Metrics that smoke runs do not have: they need Inception's weights, or polygons that are simple.
OPTIONAL = {
    *("test/fid", "test/inception_score"),
    *(f"test/area_n{n}" for n in (5, 10, 50)),
}
KEYS_OF_TRAIN = {"cpu_devices"}  # read by train.py before JAX is initialized
each_config = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path, variant: str = "") -> ConfigDict:
    """Load a config with the parser of the command line."""
    with contextlib.chdir(ROOT):
        return config_flags.ConfigFileFlagParser("config").parse(f"{file}{variant}")


def cosine_configs() -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `pytestmark` has no effect here
        return [file for file in FILES if load(file).optimizer.get("schedule") == "cosine"]


def keys(config):
    """Return the flat keys of a config, without the rows and results of the papers."""
    flat = run.flatten(json.loads(config.to_json_best_effort()))
    return {key for key in flat if key != "rows" and not key.startswith("paper.")}


class SmokeTranslate(tfds.core.GeneratorBasedBuilder):
    """A generated translation dataset."""

    VERSION = tfds.core.Version("1.0.0")
    directory: Path

    def _info(self):
        features = tfds.features.Translation(languages=("de", "en"))
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        names = {"train": "train", "validation": "dev", "test": "test"}
        return {split: self._generate_examples(name) for split, name in names.items()}

    def _generate_examples(self, name):
        german, english = (
            (self.directory / f"{name}.{language}").read_text().splitlines()
            for language in ("de", "en")
        )
        for i, (de, en) in enumerate(zip(german, english, strict=True)):
            yield i, {"de": de, "en": en}


class SmokeImages(tfds.core.GeneratorBasedBuilder):
    """A generated image dataset with three classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "test", "validation")}

    def _generate_examples(self):
        for n, image in enumerate(noise_images()):
            file = io.BytesIO()
            image.save(file, "PNG")
            file.seek(0)
            yield n, {"image": file, "label": n % 3}


def noise_images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(x) for x in rng.integers(0, 256, (18, 20, 24, 3), np.uint8)]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    """Return the changes of `config.data` that replace each corpus by generated text."""
    directory = write_parallel_corpus(tmp_path_factory.mktemp("text"), train=400, dev=8, test=8)
    SmokeTranslate.directory = directory
    prepared = str(tmp_path_factory.mktemp("tfds"))
    SmokeTranslate(data_dir=prepared, file_format="array_record").download_and_prepare()
    languages = {"source": "en", "target": "de"}
    return {
        "numbers": {},
        "cmudict": {"dir": str(write_pronunciations(tmp_path_factory.mktemp("words")))},
        "text_files": {"dir": str(directory)} | languages,
        "multi30k": {"corpus": "text_files", "dir": str(directory)},
        "tfds": {"dataset": "smoke_translate", "data_dir": prepared} | languages,
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Return the changes of `config.data` that replace each image dataset by generated images."""
    prepared = str(tmp_path_factory.mktemp("images"))
    SmokeImages(data_dir=prepared, file_format="array_record").download_and_prepare()
    directory = tmp_path_factory.mktemp("folder")
    for n, image in enumerate(noise_images()):
        for split in ("train", "test"):
            (directory / split / f"class_{n % 3}").mkdir(parents=True, exist_ok=True)
            image.save(directory / split / f"class_{n % 3}" / f"{n}.png")
    return {
        "digits": {},
        "cifar10": {"dir": str(directory)},
        "folder": {"dir": str(directory)},
        "tfds": {"dataset": "smoke_images", "data_dir": prepared},
    }


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """Return the changes of `config.data` that replace each few-shot dataset by noise images."""
    archives = {"data_dir": str(write_archives(tmp_path_factory.mktemp("omniglot")))}
    directory = tmp_path_factory.mktemp("class_folders")
    for n, image in enumerate(noise_images()):
        path = directory / ("train", "val", "test")[n % 3] / f"class_{n % 2}"
        path.mkdir(parents=True, exist_ok=True)
        for i in range(2):
            image.save(path / f"{n}_{i}.png")
    return {
        "glyphs": {},
        "image_folders": {"data_dir": str(directory)},
        **dict.fromkeys(ARCHIVES, archives),
    }


@pytest.fixture(scope="session")
def captions(tmp_path_factory):
    """Return the changes of `config.data` that replace each captioning dataset by noise images."""
    splits = ("train",) * 8 + ("val", "test")
    return {"scenes": {}} | {
        name: {"dir": str(write_dataset(tmp_path_factory.mktemp(name), name, splits))}
        for name in ("flickr8k", "coco")
    }


@pytest.fixture(scope="session")
def load_smoke(corpora, images, captions, classes):
    """Return a function that loads a smoke variant on generated data, and records key reads."""

    def in_threads(max_workers, mp_context):
        return concurrent.futures.ThreadPoolExecutor(max_workers)

    def load_and_record(file):
        config = load(file, ":smoke")
        if "corpus" in config.get("data", {}):
            config.data.update(corpora[config.data.corpus])
        if "channels" in config.get("data", {}):
            config.data.update(images[config.data.source])
        if config.task == "few_shot":
            config.data.update(classes[config.data.source])
        if config.task.startswith("captioning"):
            config.data.update(captions[config.data.source])
        read = set()
        stack.enter_context(record_config_reads(config, read))
        return config, read

    with contextlib.ExitStack() as stack:
        # Processes that label instances would take seconds to start.
        stack.enter_context(mock.patch("concurrent.futures.ProcessPoolExecutor", in_threads))
        stack.enter_context(fast_compilation())
        yield load_and_record


@pytest.fixture(scope="session")
def keys_of_the_loop(tmp_path_factory):
    """Return the keys that the training loop reads."""
    config, read = toy.get_config(), set()
    config.train.steps = 2
    with record_config_reads(config, read), fast_compilation():
        workdir = str(tmp_path_factory.mktemp("toy") / "run")
        fit(toy.build(config, workdir), config, workdir)
    return {key for key in read if not key.startswith(("data.", "model.", "optimizer."))}


@pytest.fixture(scope="session")
def evaluate(load_smoke, tmp_path_factory):
    """Return a function that evaluates a task of a package until it has read the given keys."""
    tasks_and_keys = {}

    def evaluate_until(package, expected):
        if package not in tasks_and_keys:
            first = next(file for file in FILES if load(file).task.split(".")[0] == package)
            config, read = load_smoke(EVALUATED.get(package, first))
            task = tasks.build(config, str(tmp_path_factory.mktemp(package)))
            tasks_and_keys[package] = task, read
        task, read = tasks_and_keys[package]
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        state = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype)), shapes)
        operations = [partial(task.evaluate, split=split) for split in ("dev", *task.splits)]
        for operation in (*operations, task.figures):
            if not expected <= read:
                operation(state)
        return read

    return evaluate_until


def test_config_files_are_found():
    assert {"transformer_nmt", "transformer_multi30k"} <= {file.stem for file in FILES}


@each_config
def test_docstring_has_paper_command_and_hardware(file):
    config = load(file)
    assert config.name == file.stem
    assert config.is_locked
    doc = importlib.import_module(f"configs.{file.stem}").__doc__
    assert "et al." in doc
    assert "Sized for" in doc
    assert f"python train.py --config={file}" in doc
    assert all(name.startswith("test") and "/" in name for name in config.paper)


@each_config
def test_smoke_variant_has_the_same_keys(file):
    full, smoke = load(file), load(file, ":smoke")
    assert keys(full) == keys(smoke)
    assert smoke.train.steps <= 10 < full.train.steps
    for key in ("name", "task", "rows", "paper"):
        assert smoke[key] == full[key]


@pytest.mark.parametrize("file", cosine_configs(), ids=lambda file: file.stem)
def test_cosine_schedule_ends_at_the_last_step(file):
    config = load(file)
    steps = config.optimizer.steps
    config.train.steps *= 2
    assert config.optimizer.steps == 2 * steps


@each_config
def test_unknown_variant_is_an_error(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"there is no variant 'smok', only 'smoke'$"):
        cli.check_config_flags(["train.py", f"--config={file}:smok"])


@each_config
def test_run_directory_restores_the_config(file, tmp_path):
    config = load(file)
    run.open_workdir(config, str(tmp_path))
    assert run.read_config(str(tmp_path)) == config


@each_config
def test_every_key_is_read(file, load_smoke, keys_of_the_loop, evaluate, tmp_path):
    """Keys are read by building the task, tracing a step, evaluation, figures or the loop."""
    config, read = load_smoke(file)
    task = tasks.build(config, str(tmp_path))
    state = jax.eval_shape(task.init, jax.random.key(0))
    batch = next(task.batches("train", 0))
    new_state, metrics = jax.eval_shape(task.train_step, state, batch, jax.random.key(0))
    assert jax.tree.leaves(new_state) == jax.tree.leaves(state)
    assert {"loss", "items"} <= metrics.keys()
    unread = keys(config) - read - keys_of_the_loop - KEYS_OF_TRAIN
    if unread:
        unread -= evaluate(config.task.split(".")[0], unread)
    assert not unread


@pytest.mark.slow
@each_config
def test_smoke_run_finishes(file, load_smoke, tmp_path):
    config, read = load_smoke(file)
    task = tasks.build(config, str(tmp_path))
    summary = fit(task, config, str(tmp_path))
    assert not keys(config) - read - KEYS_OF_TRAIN
    dev = [name for name in summary["metrics"] if name.startswith("dev/")]
    assert all(task.has_metric(name.removeprefix("dev/")) for name in dev)
    assert config.train.best in summary["metrics"]
    assert {name.split("/")[0] for name in summary["metrics"]} >= {"dev", "test"}
    assert summary["paper"].keys() - summary["metrics"].keys() <= OPTIONAL
