"""Word vocabularies: alignment, replacement of unknown words, and metrics that depend on them."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import seq2seq_nmt
from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.tokenized import tokenize
from tasks.translation.data.vocabulary import BilingualWordVocabulary
from tasks.translation.decoding import Decoded
from tasks.translation.unknown_words import known_pairs, read_dictionary, replace_unknown
from tasks.vocabulary import EOS, PAD, SPECIAL, UNK
from tests.models.seq2seq.tiny import build
from tests.models.tiny import SOURCE, TARGET, unoptimized_jit
from training.errors import UserError
from training.state import TrainState

SOURCES = ["the Ecotax truck of Pont-de-Buis stops", "the truck stops here"]
TARGETS = ["le truck Ecotax de Pont-de-Buis stoppe", "le camion stoppe"]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    text = ["the the the truck of stops here", "le le le de de stoppe camion"]
    path = tmp_path_factory.mktemp("words") / "vocabulary.model"
    return BilingualWordVocabulary.train(text, path, size=8)


def test_each_language_has_its_most_frequent_words(vocabulary, tmp_path):
    assert vocabulary.source.tokens(range(4, 8)) == ["the", "here", "of", "stops"]
    assert vocabulary.target.tokens(range(4, 8)) == ["le", "de", "camion", "stoppe"]
    assert vocabulary.source.encode(["the camion"]) == [[4, UNK]]
    assert vocabulary.target.encode(["the camion"]) == [[UNK, 6]]
    assert vocabulary.target.decode([[4, 6, UNK, 99, EOS, 4, PAD]]) == ["le camion <unk> <unk>"]
    assert len(vocabulary) == 8


def test_word_vocabulary_is_restored_from_its_file(vocabulary, tmp_path):
    trained = BilingualWordVocabulary.train(["a b", "c"], path := tmp_path / "words", size=9)
    loaded = BilingualWordVocabulary.load(path)
    assert loaded.fingerprint == trained.fingerprint != vocabulary.fingerprint
    assert loaded.source.tokens(range(6)) == [*SPECIAL, "a", "b"]
    assert loaded.target.tokens(range(5)) == [*SPECIAL, "c"]
    path.write_text("\n".join([*SPECIAL, "a"]))
    with pytest.raises(UserError, match="missing or damaged"):
        BilingualWordVocabulary.load(path)


def test_pairs_are_encoded_by_the_vocabulary_of_their_language(vocabulary):
    pairs = tokenize(TextPairs(SOURCES, TARGETS), vocabulary)
    assert pairs.source.tokens(np.array([1])).tolist() == [4, UNK, 7, 5, EOS]
    assert pairs.target.tokens(np.array([1])).tolist() == [4, 6, 7, EOS]
    assert known_pairs(pairs).tolist() == []
    known = tokenize(TextPairs(["the here", "the x", "of"], ["le", "le", "x"]), vocabulary)
    assert known_pairs(known).tolist() == [0]


def test_unknown_words_are_replaced_by_the_aligned_source_words(vocabulary):
    """Three sentences by hand: a copy and a translation, an alignment with EOS, no unknown word."""
    outputs = [[4, UNK, UNK, 5, UNK, 7, EOS, 9, PAD], [4, UNK, EOS], [4, 6, EOS]]
    positions = [[0, 2, 1, 3, 4, 5, 6, 0, 0], [0, 4, 4], [0, 1, 2]]
    sources = [*SOURCES, "the truck"]
    dictionary = {"truck": "camion"}
    arrays = (map(np.array, outputs), map(np.array, positions))
    assert replace_unknown(*arrays, sources, vocabulary.target, dictionary) == [
        "le camion Ecotax de Pont-de-Buis stoppe",
        "le <unk>",
        "le camion",
    ]


def test_dictionary_has_two_words_per_line(tmp_path):
    (file := tmp_path / "dict.en-fr").write_text("truck camion\nthe le\ntruck poids-lourd\n")
    assert read_dictionary(str(file)) == {"truck": "camion", "the": "le"}
    assert read_dictionary("") == {}
    file.write_text("truck camion\nthe\n")
    with pytest.raises(UserError, match="line 2 must be a source word and its translation"):
        read_dictionary(str(file))


@pytest.mark.parametrize(
    "model, score, changed",
    [
        # The alignment of the word at position 2 depends on this word with a content-based score.
        ("luong", "general", {2}),
        ("luong", "location", set()),
        ("rnnsearch", "additive", set()),
    ],
)
def test_alignment_of_a_word_is_that_of_its_output_or_input_step(model, score, changed):
    """Luong et al. 2015, sec. 4.2: by the input word with content-based scores."""
    graphdef, params = build(model, score)
    align = unoptimized_jit(lambda *pair: nnx.merge(graphdef, params).alignment(*pair))
    weights = np.asarray(align(SOURCE, TARGET))
    other = np.asarray(align(SOURCE, TARGET.at[:, 2].add(1)))
    rows = {t for t in range(3) if not np.allclose(weights[:, t], other[:, t], atol=1e-6)}
    assert rows == changed
    np.testing.assert_allclose(weights[:, :-1].sum(-1), 1.0, rtol=1e-5)


@pytest.fixture
def word_config(tmp_path):
    """Config of a small recurrent model with word vocabularies on three-word sentences."""
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.en").write_text("a a b c\nd a a b\na a b b\n")
        (tmp_path / f"{split}.fr").write_text("A A B C\nD A A B\nA A B B\n")
    config = seq2seq_nmt.get_config("smoke")
    config.data = {"corpus": "text_files", "source": "en", "target": "fr", "dir": str(tmp_path)}
    config.vocabulary = {"kind": "words", "size": 6}  # a and b
    config.decode.dictionary = ""
    config.metrics = ("bleu_words", "bleu_words_replaced", "bleu_words_known", "perplexity")
    config.train.best = "dev/bleu_words"
    return config


def test_metrics_before_and_after_replacement_and_without_unknown_words(
    word_config, tmp_path, monkeypatch
):
    (tmp_path / "dict").write_text("a A\nb B\nc C\nd D\n")
    word_config.decode.dictionary = str(tmp_path / "dict")
    task = tasks.build(word_config, str(tmp_path / "run"))
    calls = []

    def decode(params, pairs, width, key, *, align=False, allow_unknown=True):
        calls.append((len(pairs), align, allow_unknown))
        outputs = list(np.split(pairs.target.tokens(np.arange(len(pairs))), len(pairs)))
        return Decoded(outputs, [np.arange(5)] * len(pairs), 0.0, 1.0)

    monkeypatch.setattr(task.decoder, "decode", decode)
    values = task.evaluate(TrainState(jnp.int32(0), None, None), "dev")
    assert calls == [(3, True, True), (1, False, False)]  # only the third pair is known
    assert values["bleu_words_replaced"] == pytest.approx(100)
    assert values["bleu_words_known"] == pytest.approx(100)
    # "A A B <unk>", "<unk> A A B", "A A B B": n-grams 10/12, 7/9, 4/6 and 1/3.
    expected = 100 * (10 / 12 * 7 / 9 * 4 / 6 * 1 / 3) ** 0.25
    assert values["bleu_words"] == pytest.approx(expected)


def test_variants_of_metrics_need_words_and_attention(word_config, tmp_path):
    word_config.model.attention.alignment = "none"
    with pytest.raises(UserError, match="'bleu_words_replaced' needs attention"):
        tasks.build(word_config, str(tmp_path / "run"))
    word_config.vocabulary = {"kind": "symbols"}
    with pytest.raises(UserError, match="'bleu_words_replaced' needs unknown words"):
        tasks.build(word_config, str(tmp_path / "run"))


def test_long_pairs_are_left_out_of_training_only(word_config, tmp_path):
    word_config.max_training_length = 3
    (tmp_path / "train.en").write_text("a a b c\na a b\na a b\n")
    task = tasks.build(word_config, str(tmp_path / "run"))
    assert task._training_pairs[0].source.lengths.tolist() == []
    (tmp_path / "train.fr").write_text("A A B C\nA A B\nA A B C\n")
    task = tasks.build(word_config, str(tmp_path / "run"))
    assert task._training_pairs[0].source.lengths.tolist() == [4]
    assert task._evaluation_pairs("dev")[0].source.lengths.tolist() == [5, 5, 5]
