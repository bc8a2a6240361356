"""Subword and symbol vocabularies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.numbers import numbers
from tasks.translation.data.vocabulary import (
    BOS,
    EOS,
    PAD,
    SPECIAL,
    UNK,
    SubwordVocabulary,
    SymbolVocabulary,
    select_vocabulary,
)
from training.errors import UserError

TEXT = [
    "the cat sat on the mat",
    "die Katze saß auf der Matte",
    "a < b > s / p",
    "übermäßig",
]
WORDS = st.text(sorted(set("".join(TEXT)) - {" "}), min_size=1)
PRONUNCIATIONS = ["h e l l o", "HH AH L OW", "a", "EY", "</s> b"]


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "subwords.model"
    return SubwordVocabulary.train(TEXT, path, size=50, lowercase=False)


def test_special_tokens_have_the_first_ids(subwords):
    assert len(subwords) == 50
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert subwords.tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]


@given(
    st.lists(st.one_of(WORDS, st.sampled_from(["</s>", "<pad>", "<s>"])), max_size=6).map(" ".join)
)
@settings(deadline=None, max_examples=100)
def test_decode_inverts_encode(subwords, sentence):
    [ids] = subwords.encode([sentence])
    assert subwords.decode([ids]) == [sentence]
    # Names of special tokens in the text are not encoded as special ids.
    assert not {PAD, BOS, EOS, UNK} & set(ids)


def test_decode_stops_at_eos_and_skips_padding(subwords):
    [ids] = subwords.encode(["the cat"])
    assert subwords.decode([[BOS, PAD, *ids, EOS, *ids], [EOS], []]) == ["the cat", "", ""]
    assert subwords.decode([]) == []


def test_unknown_character_is_unk(subwords):
    [ids] = subwords.encode(["the Ω cat"])
    assert ids.count(UNK) == 1
    words = subwords.decode([ids])[0].split()
    assert words[0] == "the"
    assert words[-1] == "cat"


def test_training_is_deterministic_and_load_restores_it(subwords, tmp_path):
    path = tmp_path / "run" / "subwords.model"
    again = SubwordVocabulary.train(iter(TEXT), path, size=50, lowercase=False)
    assert again.fingerprint == subwords.fingerprint
    assert SubwordVocabulary.load(path).fingerprint == subwords.fingerprint
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a temporary file was left"
    assert (
        SubwordVocabulary.train(TEXT, path, size=45, lowercase=False).fingerprint
        != subwords.fingerprint
    )


def test_error_of_too_large_size_contains_the_largest_size(tmp_path):
    path = tmp_path / "subwords.model"
    with pytest.raises(UserError, match=r"set vocabulary\.size to (\d+) or less") as error:
        SubwordVocabulary.train(TEXT, path, size=5000, lowercase=False)
    assert not path.exists()
    largest = int(str(error.value).split()[-3])
    assert len(SubwordVocabulary.train(TEXT, path, size=largest, lowercase=False)) == largest
    with pytest.raises(UserError, match=rf"to {largest} or less"):
        SubwordVocabulary.train(TEXT, path, size=largest + 1, lowercase=False)


def test_error_of_too_small_size_contains_the_smallest_size(tmp_path):
    path = tmp_path / "subwords.model"
    with pytest.raises(UserError, match="smaller than the number of characters") as error:
        SubwordVocabulary.train(TEXT, path, size=10, lowercase=False)
    smallest = int(str(error.value).rstrip(".").split()[-1]) + 1
    assert len(SubwordVocabulary.train(TEXT, path, size=smallest, lowercase=False)) == smallest


@pytest.mark.parametrize("content", [None, b"", b"half a model"])
def test_missing_or_damaged_file_is_an_error(tmp_path, content):
    path = tmp_path / "subwords.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"subwords\.model is missing or damaged"):
        SubwordVocabulary.load(path)


def test_training_prints_nothing(tmp_path, capfd):
    SubwordVocabulary.train(TEXT, tmp_path / "subwords.model", size=50, lowercase=False)
    assert capfd.readouterr() == ("", "")


def test_128_subwords_separate_the_words_of_german_numbers(tmp_path):
    splits = numbers(
        "en",
        "de",
        examples=5000,
        held_out=10,
        maximum=999_999,
        nonzero_digits=4,
        seed=0,
    )
    sentences = (sentence for pair in splits["train"] for sentence in pair)
    subwords = SubwordVocabulary.train(
        sentences, tmp_path / "subwords.model", size=128, lowercase=False
    )
    for unit in ("ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"):
        for tens in ("zwan", "drei", "vier", "fünf", "sech", "sieb", "acht", "neun"):
            word = f"{unit}und{tens}{'ßig' if tens == 'drei' else 'zig'}"
            assert "und" in subwords.tokens(subwords.encode([word])[0])


@pytest.fixture
def symbols(tmp_path):
    return SymbolVocabulary.train(PRONUNCIATIONS, tmp_path / "symbols")


def test_symbols_are_collected_from_the_text(symbols):
    expected = [*SPECIAL, "AH", "EY", "HH", "L", "OW", "a", "b", "e", "h", "l", "o"]
    assert symbols.tokens(range(len(symbols))) == expected


@given(st.lists(st.lists(st.sampled_from(["h", "e", "l", "HH", "AH", "L"])).map(" ".join)))
def test_decode_inverts_encode_of_symbols(sentences):
    model = "\n".join((*SPECIAL, "h", "e", "l", "HH", "AH", "L"))
    symbols = SymbolVocabulary(model.encode())
    ids = symbols.encode(sentences)
    assert symbols.decode(ids) == sentences
    assert all(i > UNK for sequence in ids for i in sequence)
    assert symbols.decode([[BOS, *sequence, EOS, 5, PAD] for sequence in ids]) == sentences


def test_unknown_word_is_spelled_in_lowercase_letters(symbols):
    [expected] = symbols.encode(["h e l l o"])
    assert symbols.encode(["hello", "Hello", "h ello"]) == [expected] * 3
    tokens = symbols.tokens(symbols.encode(["a HH heaß </s>"])[0])
    assert tokens == ["a", "HH", "h", "e", "a", *["<unk>"] * 5]


def test_symbols_are_restored_from_their_file(symbols, tmp_path):
    again = SymbolVocabulary.load(tmp_path / "symbols")
    assert again.fingerprint == symbols.fingerprint
    assert again.encode(PRONUNCIATIONS) == symbols.encode(PRONUNCIATIONS)
    (tmp_path / "symbols").write_text("a\nb")
    with pytest.raises(UserError, match="missing or damaged"):
        SymbolVocabulary.load(tmp_path / "symbols")


def test_lowercase_vocabulary_encodes_text_as_its_lower_case(tmp_path):
    text = ["Der Ärger der Straße", "weiße ÜBUNG", "Être à l'œuvre"] * 3
    path = tmp_path / "subwords.model"
    SubwordVocabulary.train(text, path, size=45, lowercase=True)
    subwords = SubwordVocabulary.load(path)  # the file stores the lowercase option
    lowered = [sentence.lower() for sentence in text]
    assert subwords.encode(text) == subwords.encode(lowered)
    assert subwords.decode(subwords.encode(text)) == lowered


def test_config_selects_a_vocabulary_and_its_options():
    assert select_vocabulary(kind="bpe", size=9, lowercase=True) == (
        SubwordVocabulary,
        {"size": 9, "lowercase": True},
    )
    assert select_vocabulary(kind="symbols") == (SymbolVocabulary, {})
    with pytest.raises(UserError, match=r"vocabulary\.kind='symbol'; .* Did you mean 'symbols'"):
        select_vocabulary(kind="symbol")
    with pytest.raises(UserError, match=r"'symbols' has no option vocabulary\.size"):
        select_vocabulary(kind="symbols", size=9)
    with pytest.raises(UserError, match=r"'bpe' needs vocabulary\.size"):
        select_vocabulary(kind="bpe", lowercase=False)
