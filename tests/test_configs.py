"""Every config: loads, says what it is of, builds its task, and reads each of its keys."""

import contextlib
import importlib
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags
from PIL import Image

import tasks
from tests.commands import ROOT, fast_compilation, record_config_reads, write_text, write_words
from training import cli, run
from training.errors import UserError
from training.loop import fit

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.py"))
WITH_INCEPTION = ("test/fid", "test/inception_score")  # which no smoke run has the weights of
BY_TRAIN = {"cpu_devices"}  # read by train.py, before JAX begins
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path, variant: str = "") -> ConfigDict:
    """As the command line does."""
    with contextlib.chdir(ROOT):
        return config_flags.ConfigFileFlagParser("config").parse(f"{file}{variant}")


def keys(config):
    """Those with a value of their own; what the paper reports is no setting."""
    flat = run.flatten(json.loads(config.to_json_best_effort()))
    return {key for key in flat if not key.startswith("paper.")}


class SmokeTranslate(tfds.core.GeneratorBasedBuilder):
    """A translation dataset like the stock ones, made without any download."""

    VERSION = tfds.core.Version("1.0.0")
    folder: Path

    def _info(self):
        features = tfds.features.Translation(languages=("de", "en"))
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        names = {"train": "train", "validation": "dev", "test": "test"}
        return {theirs: self._generate_examples(ours) for theirs, ours in names.items()}

    def _generate_examples(self, name):
        sides = {x: (self.folder / f"{name}.{x}").read_text().splitlines() for x in ("de", "en")}
        for i, pair in enumerate(zip(*sides.values(), strict=True)):
            yield i, dict(zip(sides, pair, strict=True))


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    """For each corpus that must be had from elsewhere, a stand-in: changes of the data section."""
    folder = write_text(tmp_path_factory.mktemp("text"), train=400, dev=8, test=8)
    SmokeTranslate.folder = folder
    prepared = str(tmp_path_factory.mktemp("tfds"))
    SmokeTranslate(data_dir=prepared, file_format="array_record").download_and_prepare()
    words = write_words(tmp_path_factory.mktemp("words"))
    return {
        "numbers": {},
        "cmudict": {"dir": str(words)},
        "text_files": {"dir": str(folder)},
        "multi30k": {"corpus": "text_files", "dir": str(folder)},
        "tfds": {"dataset": "smoke_translate", "data_dir": prepared},
    }


class SmokeImages(tfds.core.GeneratorBasedBuilder):
    """A dataset of images like the stock ones, of three classes."""

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
        for n, image in enumerate(noise()):
            file = io.BytesIO()
            image.save(file, "PNG")
            file.seek(0)
            yield n, {"image": file, "label": n % 3}


def noise():
    """Eighteen images of nothing."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(x) for x in rng.integers(0, 256, (18, 20, 24, 3), np.uint8)]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """What stands in for datasets of images: changes of the data section."""
    prepared = str(tmp_path_factory.mktemp("images"))
    SmokeImages(data_dir=prepared, file_format="array_record").download_and_prepare()
    folder = tmp_path_factory.mktemp("folder")
    for n, image in enumerate(noise()):
        for split in ("train", "test"):
            (folder / split / f"class_{n % 3}").mkdir(parents=True, exist_ok=True)
            image.save(folder / split / f"class_{n % 3}" / f"{n}.png")
    return {
        "digits": {},
        "folder": {"dir": str(folder)},
        "tfds": {"dataset": "smoke_images", "data_dir": prepared},
    }


@pytest.fixture(scope="session")
def smoke(corpora, images):
    """Gives a file's smoke variant on data that are here, and the set of keys read of it so far."""

    def prepare(file):
        config = load(file, ":smoke")
        if "corpus" in config.get("data", {}):
            config.data.update(corpora[config.data.corpus])
        if "channels" in config.get("data", {}):
            config.data.update(images[config.data.source])
        read = set()
        stack.enter_context(record_config_reads(config, read))
        return config, read

    with contextlib.ExitStack() as stack:
        yield prepare


@pytest.fixture(scope="session")
def read_by_a_run(smoke, recorded_run, tmp_path_factory):
    """Gives the keys that a whole smoke run of a task reads, of the first config that there is."""
    known = {load(Path("configs/transformer_nmt.py")).task: recorded_run[1]}

    def keys_of(task):
        if task not in known:
            first = next(file for file in FILES if load(file).task == task)
            workdir = str(tmp_path_factory.mktemp(task))
            config, known[task] = smoke(first)
            with fast_compilation():
                fit(tasks.build(config, workdir), config, workdir)
        return known[task]

    return keys_of


def test_there_are_some():
    assert {"transformer_nmt", "transformer_multi30k"} <= {file.stem for file in FILES}


@each
def test_says_what_it_is(file):
    config = load(file)
    assert config.name == file.stem and config.is_locked
    doc = importlib.import_module(f"configs.{file.stem}").__doc__
    assert "et al." in doc and "Sized for" in doc
    assert f"python train.py --config={file}" in doc
    assert all(name.startswith("test") and "/" in name for name in config.paper)


@each
def test_smoke_changes_values_and_no_keys(file):
    whole, smoke = load(file), load(file, ":smoke")
    assert keys(whole) == keys(smoke)
    assert smoke.train.steps <= 10 < whole.train.steps
    assert (smoke.name, smoke.task, smoke.paper) == (whole.name, whole.task, whole.paper)


@each
def test_a_cosine_ends_with_the_training(file):
    config = load(file)
    if config.optimizer.get("schedule") == "cosine":
        ends = config.optimizer.steps
        config.train.steps *= 2
        assert config.optimizer.steps == 2 * ends


@each
def test_knows_no_other_variant(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"there is no variant 'smok', only 'smoke'$"):
        cli.check_config_flags(["train.py", f"--config={file}:smok"])


@each
def test_comes_back_from_a_run_as_it_was(file, tmp_path):
    config = load(file)
    run.open_workdir(config, str(tmp_path))
    assert run.read_config(str(tmp_path)) == config


@each
def test_builds_and_every_key_is_read(file, smoke, read_by_a_run, tmp_path):
    """In building and tracing a step, or else where a whole run of the same task reads it."""
    config, read = smoke(file)
    task = tasks.build(config, str(tmp_path))
    state = jax.eval_shape(task.init, jax.random.key(0))
    batch = next(task.batches("train", 0))
    new, metrics = jax.eval_shape(task.train_step, state, batch, jax.random.key(0))
    assert jax.tree.leaves(new) == jax.tree.leaves(state)
    assert {"loss", "items"} <= metrics.keys()
    assert not keys(config) - read - read_by_a_run(config.task) - BY_TRAIN, "never read"


@pytest.mark.slow
@each
def test_a_smoke_run_goes_all_the_way(file, smoke, tmp_path):
    config, read = smoke(file)
    with fast_compilation():
        summary = fit(tasks.build(config, str(tmp_path)), config, str(tmp_path))
    assert not keys(config) - read - BY_TRAIN, "never read"
    assert config.train.best in summary["metrics"]
    assert {name.split("/")[0] for name in summary["metrics"]} >= {"dev", "test"}
    assert summary["paper"].keys() - summary["metrics"].keys() <= {*WITH_INCEPTION}
