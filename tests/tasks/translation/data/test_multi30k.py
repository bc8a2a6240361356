"""Multi30k from a directory and from its server."""

import gzip
import hashlib
import io
import urllib.error
from pathlib import Path

import pytest

from tasks.translation.data import corpora, multi30k
from training.errors import UserError

MULTI30K = Path(__file__).parents[5] / "shared/data/multi30k"


def read(directory, corpus="multi30k", target="de"):
    return corpora.load(corpus, "en", target, dir=str(directory))


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="the corpus is not beside the repository")
@pytest.mark.parametrize("corpus", ["multi30k", "text_files"])
def test_corpus_is_read_from_a_directory(corpus):
    splits = read(MULTI30K, corpus)
    sizes = {name: len(pairs) for name, pairs in splits.items()}
    assert sizes == {"train": 29_000, "dev": 1_014, "test": 1_000}
    assert splits["train"][0] == (
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    assert splits["test"].sources[0] == "A man in an orange hat starring at something."


@pytest.fixture
def downloads(monkeypatch):
    """Replace the corpus and its server by small files; returns the names of downloaded files."""
    texts = {name: f"{name}\n".encode() for name in multi30k.SHA256}
    sums = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    monkeypatch.setattr(multi30k, "SHA256", sums)
    names = []

    def urlopen(url, timeout):
        names.append(url.removeprefix(multi30k.URL))
        return io.BytesIO(gzip.compress(texts[names[-1].removesuffix(".gz")]))

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    return names


def test_missing_files_are_downloaded_once(downloads, tmp_path):
    directory = tmp_path / "cache"
    directory.mkdir()
    (directory / "val.en").write_bytes(b"val.en\n")
    splits = read(directory)
    assert {name: pairs[0] for name, pairs in splits.items()} == {
        "train": ("train.en", "train.de"),
        "dev": ("val.en", "val.de"),
        "test": ("test_2016_flickr.en", "test_2016_flickr.de"),
    }
    assert len(downloads) == 5
    assert "val.en.gz" not in downloads
    read(directory)
    assert len(downloads) == 5, "downloaded again"
    assert len(list(directory.iterdir())) == 6, "a temporary file was left"


def test_file_with_another_checksum_is_an_error(downloads, tmp_path, monkeypatch):
    (tmp_path / "train.en").write_text("something else\n")
    with pytest.raises(UserError, match=r"is not train\.en of Multi30k .* checksum differs"):
        read(tmp_path)
    (tmp_path / "train.en").unlink()
    monkeypatch.setitem(multi30k.SHA256, "train.en", "x")
    with pytest.raises(UserError, match=r"/train\.en\.gz is not train\.en of Multi30k"):
        read(tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_language_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"Multi30k has no 'cs': choose from en, de, fr"):
        read(tmp_path, target="cs")


def test_unreachable_server_is_an_error(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    with pytest.raises(UserError, match=r"connect .* or copy train\.en .* set data\.dir"):
        read(tmp_path)
