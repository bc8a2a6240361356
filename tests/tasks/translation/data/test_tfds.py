"""Translation datasets of tensorflow-datasets, read without TensorFlow."""

import sys

import pytest
import tensorflow_datasets as tfds

from tasks.translation.data import corpora
from training.errors import UserError

CONFIGS = ("de-en", "train_only", "ordered")  # the last two have no dev and test splits


class TinyTranslate(tfds.core.GeneratorBasedBuilder):
    """A generated translation dataset in the format of tensorflow-datasets."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in CONFIGS)

    def _info(self):
        features = tfds.features.Translation(languages=("de", "en"))
        ordered = self.builder_config.name == "ordered"
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=ordered)

    def _split_generators(self, dl_manager):
        splits = {name: self._generate_examples(name) for name in ("train", "validation", "test")}
        return splits if self.builder_config.name == "de-en" else {"train": splits["train"]}

    def _generate_examples(self, name):
        for i in range(300):
            yield i, {"de": f"ä {name} {i}", "en": f"a {name} {i}"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    for config in CONFIGS:
        builder = TinyTranslate(data_dir=directory, config=config, file_format="array_record")
        builder.download_and_prepare()
    return directory


def load(data_dir, dataset="tiny_translate/de-en", target="de"):
    return corpora.load("tfds", "en", target, dataset=dataset, data_dir=str(data_dir))


def test_dataset_is_read_without_tensorflow(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # makes its import an ImportError
    splits = load(prepared)
    assert list(splits) == ["train", "dev", "test"]
    for split, name in (("train", "train"), ("dev", "validation"), ("test", "test")):
        pairs = splits[split]
        assert set(pairs) == {(f"a {name} {i}", f"ä {name} {i}") for i in range(300)}
        assert pairs[7:9] == [pairs[7], pairs[8]]
        assert pairs[-1] == pairs[299]
    assert len({pairs.fingerprint for pairs in splits.values()}) == 3


def test_missing_splits_are_held_out_from_training(prepared):
    splits = load(prepared, "tiny_translate/train_only")
    sizes = {name: len(pairs) for name, pairs in splits.items()}
    assert sizes == {"train": 294, "dev": 3, "test": 3}
    assert len({pair for pairs in splits.values() for pair in pairs}) == 300
    assert len({pairs.fingerprint for pairs in splits.values()}) == 3


def test_pairs_are_held_out_from_the_whole_training_split(prepared):
    """The first pairs of an ordered dataset may be of one document."""
    splits = load(prepared, "tiny_translate/ordered")
    numbers = {name: [int(x.split()[-1]) for x, _ in pairs] for name, pairs in splits.items()}
    assert sorted(n for values in numbers.values() for n in values) == list(range(300))
    assert all(values == sorted(values) for values in numbers.values())
    held_out = numbers["dev"] + numbers["test"]
    assert max(held_out) > 150 and held_out != list(range(6))
    assert splits["train"][7:9] == [splits["train"][7], splits["train"][8]]
    assert list(splits["dev"]) == list(load(prepared, "tiny_translate/ordered")["dev"])


@pytest.mark.parametrize(
    "dataset, message",
    [
        (
            "wmt14_translate/de-en",
            r"not prepared in .*prepare wmt14_translate/de-en --data_dir=\S+`",
        ),
        ("tiny_translate/fr-en", "tiny_translate/fr-en is not prepared"),
    ],
)
def test_unprepared_dataset_error_contains_the_command(prepared, dataset, message):
    with pytest.raises(UserError, match=message):
        load(prepared, dataset)


def test_unreachable_bucket_is_an_error():
    with pytest.raises(UserError, match=r"data_dir='gs://nowhere/x'.*--data_dir=gs://nowhere/x`"):
        load("gs://nowhere/x")


def test_unknown_language_is_an_error(prepared):
    with pytest.raises(UserError, match=r"has no 'fr': choose from de, en"):
        load(prepared, target="fr")
