"""Readers of text return a value or raise `UserError` for arbitrary content."""

import contextlib
import gzip
import re
import urllib.error
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.translation.data import corpora, multi30k
from tasks.translation.data.pairs import RecordPairs, TextPairs
from tasks.translation.data.tokenized import tokenize
from tasks.translation.data.vocabulary import SubwordVocabulary, SymbolVocabulary, select_vocabulary
from tasks.vocabulary import SPECIAL, UNK
from training.errors import UserError

EXAMPLES = pytest.mark.parametrize("examples", [25, pytest.param(500, marks=pytest.mark.slow)])

TEXT = st.text(max_size=20)
# Characters and strings with a meaning for one of the readers.
SYNTAX = [
    *("\n", "\r\n", "\r", " ", "\t", "\0", "\ufeff", "\u2028", "\u00a0", "#", ";;;", "(2)", ".gz"),
    *("a", "B", "'", "AH0", "\u0308", "\u00fc", "\u4e2d", "\u2581", "\u2585", "\ufdd0", *SPECIAL),
]
LINES = st.lists(st.sampled_from(SYNTAX), max_size=12).map("".join)
CONTENT = st.one_of(
    st.binary(max_size=60),
    LINES.map(str.encode),
    LINES.map(lambda text: gzip.compress(text.encode())),
    st.tuples(LINES, st.integers(0, 40)).map(lambda x: gzip.compress(x[0].encode())[: x[1]]),
)


def check(examples, *strategies):
    """Run the decorated function with examples of the strategies."""
    options = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return lambda function: options(given(*strategies)(function))()


def write(directory: Path, files: dict[str, bytes]) -> str:
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return str(directory)


@EXAMPLES
def test_parallel_text(examples, tmp_path):
    names = [
        f"{stem}.{suffix}"
        for stem in ("train", "dev", "val", "test", "test_2016", "vocab", "._train")
        for suffix in ("en", "de", "en.gz")
    ]
    # Most examples have all files and equal numbers of lines, so that reading gets to the end.
    pairs = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
    valid = st.fixed_dictionaries({"train": pairs, "dev": pairs, "test": pairs}).map(
        lambda splits: {
            f"{split}.{language}": "".join(f"{pair[i]}\n" for pair in split_pairs).encode()
            for split, split_pairs in splits.items()
            for i, language in enumerate(("en", "de"))
        }
    )
    changes = st.dictionaries(st.sampled_from(names), CONTENT, max_size=2)

    @check(examples, valid, changes)
    def read(files, changed):
        directory = write(tmp_path, files | changed)
        with contextlib.suppress(UserError):
            for pairs in corpora.load("text_files", "en", "de", dir=directory).values():
                assert all(isinstance(text, str) for pair in pairs for text in pair)


@EXAMPLES
def test_pronunciations(examples, tmp_path):
    entries = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=4).map(
        lambda lines: "".join(f"ab {word} {phonemes}\n" for word, phonemes in lines).encode()
    )
    content = st.one_of(CONTENT, entries)

    @check(examples, content, content, content)
    def read(train, dev, test):
        directory = write(tmp_path, {"train.txt": train, "dev.txt.gz": dev, "test": test})
        with contextlib.suppress(UserError):
            splits = corpora.load("cmudict", "letters", "phonemes", dir=directory)
            symbols = " ".join(target for pairs in splits.values() for _, target in pairs).split()
            assert not any(symbol.startswith("#") for symbol in symbols)


@EXAMPLES
def test_subwords_of_any_text(examples, tmp_path):
    """Every sentence of the training text is restored from its tokens, none of them UNK."""
    path = tmp_path / "subwords.model"
    sentences = st.lists(st.one_of(TEXT, LINES, st.text(max_size=6000)), max_size=4)

    @check(examples, sentences, st.integers(-2, 300), st.sampled_from(["nfc", "none"]))
    def train(text, size, normalization):
        try:
            train_subwords(text, path, size, normalization)
        except UserError:
            return
        vocabulary = SubwordVocabulary.load(path)
        pairs = tokenize(TextPairs(text, text), vocabulary)
        ids = vocabulary.encode(text)
        assert [len(x) + 1 for x in ids] == pairs.source.lengths.tolist()
        assert all(i > UNK for x in ids for i in x)
        expected = [vocabulary.normalize(" ".join(x.split(" "))) for x in text]
        assert [merge_spaces(x) for x in vocabulary.decode(ids)] == [*map(merge_spaces, expected)]
        vocabulary.tokens(range(len(vocabulary)))


def train_subwords(text: list[str], path: Path, size: int, normalization: str) -> None:
    """Train a vocabulary of this size, or of the size that the error recommends."""
    options = {"lowercase": False, "normalization": normalization, "sample": 0}
    for _ in range(2):
        try:
            SubwordVocabulary.train(text, path, size=size, **options)
        except UserError as error:
            sizes = re.search(r"to (\d+) or less|to more than (\d+)", str(error))
            if not sizes:
                raise
            size = int(sizes[1]) if sizes[1] else int(sizes[2]) + 1
        else:
            return
    SubwordVocabulary.train(text, path, size=size, **options)


def merge_spaces(text: str) -> str:
    return " ".join(word for word in text.split(" ") if word)


@EXAMPLES
def test_symbols_of_any_text(examples, tmp_path):
    path = tmp_path / "symbols"

    @check(examples, st.lists(st.one_of(TEXT, LINES), max_size=4), st.lists(TEXT, max_size=3))
    def train(text, other):
        SymbolVocabulary.train(text, path)
        vocabulary = SymbolVocabulary.load(path)
        ids = vocabulary.encode(text)
        assert all(i > UNK for x in ids for i in x)
        expected = [" ".join(vocabulary.normalize(x).split()) for x in text]
        assert vocabulary.decode(ids) == expected
        vocabulary.decode(vocabulary.encode(other))


@EXAMPLES
def test_vocabulary_files(examples, tmp_path):
    path = tmp_path / "vocabulary.model"
    text = ["the cat sat on the mat"]
    SubwordVocabulary.train(text, path, size=20, lowercase=False, normalization="nfc", sample=0)
    model = path.read_bytes()
    position = st.integers(0, len(model) - 1)
    content = st.one_of(
        CONTENT,
        position.map(lambda i: model[:i]),
        st.tuples(position, st.binary(max_size=3)).map(
            lambda x: model[: x[0]] + x[1] + model[x[0] :]
        ),
        st.tuples(position, st.integers(0, 255)).map(
            lambda x: model[: x[0]] + bytes([x[1]]) + model[x[0] + 1 :]
        ),
    )

    @check(examples, content, st.sampled_from([SubwordVocabulary, SymbolVocabulary]))
    def load(content, kind):
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            vocabulary = kind.load(path)
            vocabulary.decode(vocabulary.encode(text))
            vocabulary.tokens(range(len(vocabulary)))


@EXAMPLES
def test_records(examples):
    class Records(list):
        def __getitems__(self, indices):
            return [self[i] for i in indices]

    record = st.fixed_dictionaries({"en": CONTENT, "de": CONTENT})

    @check(examples, st.lists(record, max_size=3).map(Records))
    def read(records):
        with contextlib.suppress(UserError):
            pairs = RecordPairs(records, "en", "de", "x", indices=range(len(records)))
            assert len(list(pairs)) == len(pairs) == len(records)


NAMES = st.one_of(
    st.sampled_from(
        ["en", "de", "zh_CN", "ja", "letters", "phonemes", "", "..", "~", "~x", "/", "\0"]
    ),
    TEXT,
    st.just("x" * 300),
)
INTEGERS = st.one_of(st.integers(-3, 400), st.integers(), st.just(10**25))


@EXAMPLES
def test_values_of_the_data_section(examples, monkeypatch):
    def unreachable(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(multi30k, "DEFAULT_DIR", "/nonexistent")
    directory = st.fixed_dictionaries({"dir": NAMES})
    numbers = st.fixed_dictionaries(
        dict.fromkeys(("examples", "held_out", "maximum", "nonzero_digits", "seed"), INTEGERS)
    )
    corpus = st.one_of(
        st.tuples(st.sampled_from(["text_files", "multi30k", "cmudict"]), directory),
        st.tuples(st.just("numbers"), numbers),
        st.tuples(TEXT, st.dictionaries(TEXT, NAMES, max_size=2)),
    ).filter(lambda x: x != ("cmudict", {"dir": ""}))  # takes a second, and is valid

    @check(examples, corpus, NAMES, NAMES)
    def load(corpus, source, target):
        name, options = corpus
        options = {k: v for k, v in options.items() if k not in ("corpus", "source", "target")}
        with contextlib.suppress(UserError):
            corpora.load(name, source, target, **options)


@EXAMPLES
def test_values_of_the_vocabulary_section(examples, tmp_path):
    options = st.dictionaries(
        st.sampled_from(["size", "lowercase", "normalization", "x"]), st.one_of(INTEGERS, NAMES)
    )

    @check(examples, st.one_of(st.sampled_from(["bpe", "symbols"]), NAMES), options)
    def select(kind, options):
        with contextlib.suppress(UserError):
            select_vocabulary(kind=kind, **options)
