import gzip
import hashlib
import io
import sys
import urllib.error
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from tasks import prepare
from tasks.translation.data import corpora, multi30k
from tasks.translation.data.pairs import TextPairs
from training.errors import UserError

MULTI30K = Path(__file__).parents[5] / "shared/data/multi30k"


@pytest.fixture
def folder(tmp_path):
    """Three splits of English and German, one of the files compressed."""
    for stem, count in (("train", 3), ("val", 2), ("test_b", 1), ("test_a", 2)):
        for language in ("en", "de"):
            lines = "".join(f"{language} {stem} {i}\n" for i in range(count))
            (tmp_path / f"{stem}.{language}").write_text(lines)
    (tmp_path / "train.de").unlink()
    content = "größe\u2028a\r\n  zwei\ndrei".encode()
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(content))
    return tmp_path


def read(folder, **options):
    return corpora.load(
        **{"corpus": "text_files", "source": "en", "target": "de"} | options,
        dir=str(folder),
    )


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"corpus": "number"}, r"no data\.corpus='number'.* Did you mean 'numbers'\?"),
        (
            {"corpus": "text_files", "dri": "x"},
            r"no option data\.dri.* Did you mean 'dir'\?",
        ),
        ({"corpus": "text_files"}, r"'text_files' needs data\.dir"),
    ],
)
def test_unknown_names_are_met_with_the_nearest(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        corpora.load(source="en", target="de", **arguments)


def test_a_folder_gives_its_splits(folder):
    splits = read(folder)
    assert {name: len(pairs) for name, pairs in splits.items()} == {
        "train": 3,
        "dev": 2,
        "test": 2,
        "test_b": 1,
    }
    assert splits["train"][0] == ("en train 0", "größe\u2028a")
    assert splits["train"][1:] == [("en train 1", "zwei"), ("en train 2", "drei")]
    assert splits["test"][-1] == ("en test_a 1", "de test_a 1")
    assert read(folder, source="de", target="en")["train"][2] == ("drei", "en train 2")


def test_a_plain_test_file_comes_before_named_ones(folder):
    for language in ("en", "de"):
        (folder / f"test.{language}").write_text("one line\n")
    assert {n: len(p) for n, p in read(folder).items() if "test" in n} == {
        "test": 1,
        "test_a": 2,
        "test_b": 1,
    }


def test_a_fingerprint_is_of_the_content(folder):
    before = read(folder)["dev"].fingerprint
    assert before == read(folder)["dev"].fingerprint
    (folder / "val.de").write_text("de val 0\nde val 2\n")
    assert read(folder)["dev"].fingerprint != before
    assert TextPairs(["a"], ["b"]).fingerprint != TextPairs(["b"], ["a"]).fingerprint


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("val.de", None, r"has no dev\.de|has no val\.de"),
        ("train.en", None, r"has no train\.en \(nor \.gz of it\): add it"),
        ("train.en", b"one\ntwo\n", r"train\.en has 2 lines but .*train\.de\.gz has 3"),
        ("val.en", b"one\n \n", r"val\.en, line 2: empty"),
        ("val.en", b"", r"val\.en is empty"),
        ("val.en", b"one\ntw\xff\n", r"val\.en, line 2: not UTF-8"),
        ("train.de.gz", b"\x1f\x8bnot gzip", r"cannot read .*train\.de\.gz"),
    ],
)
def test_bad_text_is_named_with_file_and_line(folder, name, content, sentence):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read(folder)


def test_a_missing_folder_or_language_is_named(folder):
    with pytest.raises(UserError, match=r"no folder .*/nowhere: set data\.dir"):
        read(folder / "nowhere")
    with pytest.raises(UserError, match=r"has no train\.cs"):
        read(folder, target="cs")


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="the corpus is not beside the repository")
@pytest.mark.parametrize("corpus", ["multi30k", "text_files"])
def test_multi30k_from_a_folder(corpus):
    splits = read(MULTI30K, corpus=corpus)
    assert {n: len(p) for n, p in splits.items()} == {
        "train": 29_000,
        "dev": 1_014,
        "test": 1_000,
    }
    assert splits["train"][0] == (
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    assert splits["test"].sources[0] == "A man in an orange hat starring at something."


@pytest.fixture
def small_multi30k(monkeypatch):
    """A stand-in of the corpus on a stand-in of its server; gives the files asked for."""
    texts = {name: f"{name}\n".encode() for name in multi30k.SHA256}
    sums = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    monkeypatch.setattr(multi30k, "SHA256", sums)
    asked = []

    def urlopen(url, timeout):
        asked.append(url.removeprefix(multi30k.URL))
        return io.BytesIO(gzip.compress(texts[asked[-1].removesuffix(".gz")]))

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    return asked


def test_multi30k_downloads_what_a_folder_lacks(small_multi30k, tmp_path):
    tmp_path /= "cache"
    tmp_path.mkdir()
    (tmp_path / "val.en").write_bytes(b"val.en\n")
    splits = read(tmp_path, corpus="multi30k")
    assert {n: p[0] for n, p in splits.items()} == {
        "train": ("train.en", "train.de"),
        "dev": ("val.en", "val.de"),
        "test": ("test_2016_flickr.en", "test_2016_flickr.de"),
    }
    assert len(small_multi30k) == 5 and "val.en.gz" not in small_multi30k
    read(tmp_path, corpus="multi30k")
    assert len(small_multi30k) == 5, "downloaded again"
    assert len(list(tmp_path.iterdir())) == 6, "a temporary file was left"


def test_multi30k_refuses_what_is_not_the_corpus(small_multi30k, tmp_path, monkeypatch):
    (tmp_path / "train.en").write_text("something else\n")
    with pytest.raises(UserError, match=r"train\.en is not multi30k's .* checksum differs"):
        read(tmp_path, corpus="multi30k")
    (tmp_path / "train.en").unlink()
    monkeypatch.setitem(multi30k.SHA256, "train.en", "x")
    with pytest.raises(UserError, match=r"/train\.en\.gz is not multi30k's train\.en"):
        read(tmp_path, corpus="multi30k")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"multi30k has no 'cs': choose from en, de, fr"):
        read(tmp_path, corpus="multi30k", target="cs")


def test_multi30k_offline_says_how_to_supply_it(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    with pytest.raises(UserError, match=r"not in .* go online, or put train\.en .*set data\.dir"):
        read(tmp_path, corpus="multi30k")


class TinyTranslate(tfds.core.GeneratorBasedBuilder):
    """A translation dataset like the stock ones, made without any download."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in ("de-en", "bare"))

    def _info(self):
        features = tfds.features.Translation(languages=("de", "en"))
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        names = ["train"] if self.builder_config.name == "bare" else ["train", "validation", "test"]
        return {name: self._generate_examples(name) for name in names}

    def _generate_examples(self, name):
        for i in range(300):
            yield i, {"de": f"ä {name} {i}", "en": f"a {name} {i}"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("de-en", "bare"):
        TinyTranslate(
            data_dir=folder, config=config, file_format="array_record"
        ).download_and_prepare()
    return folder


def open_tfds(data_dir, dataset="tiny_translate/de-en", target="de"):
    return corpora.load("tfds", "en", target, dataset=dataset, data_dir=str(data_dir))


def test_tfds_is_read_without_tensorflow(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it now raises ImportError
    splits = open_tfds(prepared)
    assert list(splits) == ["train", "dev", "test"]
    for ours, theirs in (("train", "train"), ("dev", "validation"), ("test", "test")):
        pairs = splits[ours]
        assert set(pairs) == {(f"a {theirs} {i}", f"ä {theirs} {i}") for i in range(300)}
        assert pairs[7:9] == [pairs[7], pairs[8]] and pairs[-1] == pairs[299]
    assert len({pairs.fingerprint for pairs in splits.values()}) == 3


def test_tfds_splits_that_are_missing_are_cut_from_training(prepared):
    splits = open_tfds(prepared, "tiny_translate/bare")
    assert {name: len(pairs) for name, pairs in splits.items()} == {
        "train": 294,
        "dev": 3,
        "test": 3,
    }
    assert len({pair for pairs in splits.values() for pair in pairs}) == 300


@pytest.mark.parametrize(
    "dataset, sentence",
    [
        (
            "wmt14_translate/de-en",
            r"not prepared in .*prepare wmt14_translate/de-en --data_dir=\S+`",
        ),
        ("tiny_translate/fr-en", "tiny_translate/fr-en is not prepared"),
    ],
)
def test_tfds_that_is_not_prepared_names_the_command(prepared, dataset, sentence):
    with pytest.raises(UserError, match=sentence):
        open_tfds(prepared, dataset)


def test_tfds_bucket_and_language_faults_are_named(prepared):
    with pytest.raises(UserError, match=r"data_dir='gs://nowhere/x'.*--data_dir=gs://nowhere/x`"):
        open_tfds("gs://nowhere/x")
    with pytest.raises(UserError, match=r"has no 'fr': choose from de, en"):
        open_tfds(prepared, target="fr")


def test_preparing_without_tensorflow_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["prepare", "wmt14_translate/de-en", "--data_dir=x"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main()
    error = capsys.readouterr().err
    assert error.startswith("error: preparing a dataset needs TensorFlow")
    assert error.count("\n") == 1
