"""Subword and symbol vocabularies."""

import io
from functools import partial

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.numbers import numbers
from tasks.translation.data.vocabulary import SubwordVocabulary, SymbolVocabulary, select_vocabulary
from tasks.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from training.errors import UserError

TEXT = [
    "the cat sat on the mat",
    "die Katze saß auf der Matte",
    "a < b > s / p",
    "übermäßig",
]
WORDS = st.text(sorted(set("".join(TEXT)) - {" "}), min_size=1)
train = partial(SubwordVocabulary.train, lowercase=False, normalization="nfc", sample=0)
PRONUNCIATIONS = ["h e l l o", "HH AH L OW", "a", "EY", "</s> b"]


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "subwords.model"
    return train(TEXT, path, size=50)


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


@pytest.mark.parametrize(
    "special", ["</s>", "<unk>", "\0", "\u2581", "\u2585", "\x1f", "\ufdd0", "\ufdd01", "\t"]
)
def test_reserved_text_is_learned(special, tmp_path):
    """Sentencepiece itself drops such lines from its training text, or the characters."""
    text = [*TEXT[:2], f"to {special} be", f"x{special}y", f"z{special}"]
    vocabulary = train(text, tmp_path / "subwords.model", size=50)
    ids = vocabulary.encode(text)
    assert min(i for sentence in ids for i in sentence) > UNK
    assert vocabulary.decode(ids) == text


@pytest.mark.parametrize("size", [5000, 100_000])
def test_long_line_is_learned(size, tmp_path):
    vocabulary = train([" ".join(["ab"] * (size // 3))], tmp_path / "subwords.model", size=9)
    [ids] = vocabulary.encode(["ab ab"])
    assert vocabulary.tokens(ids) == ["▁ab", "▁ab"]


def test_empty_training_text_is_an_error(tmp_path):
    for text in ([], ["", ""]):
        with pytest.raises(UserError, match="The training text is empty: add sentences"):
            train(text, tmp_path / "subwords.model", size=8)


def test_error_of_the_text_is_not_replaced(tmp_path):
    def faulty():
        yield "a sentence"
        raise UserError("the text is damaged")

    with pytest.raises(UserError, match="^the text is damaged$"):
        train(faulty(), tmp_path / "subwords.model", size=8)


COMPOSED, DECOMPOSED = (
    "Gr\u00fc\u00dfe, \u1eddi \uac00",
    "Gru\u0308\u00dfe, o\u031b\u0300i \u1100\u1161",
)


def test_canonically_equivalent_text_is_encoded_equally(tmp_path):
    path = tmp_path / "subwords.model"
    for text in ([COMPOSED], [DECOMPOSED], [COMPOSED, DECOMPOSED]):
        train(text, path, size=18)
        vocabulary = SubwordVocabulary.load(path)  # the file stores the normal form
        ids = vocabulary.encode([COMPOSED, DECOMPOSED])
        assert ids[0] == ids[1] and UNK not in ids[0]
        assert vocabulary.decode(ids) == [COMPOSED] * 2
        assert vocabulary.normalize(DECOMPOSED) == COMPOSED


def test_normalization_can_be_disabled(tmp_path):
    text = [COMPOSED, DECOMPOSED]
    vocabulary = train(text, tmp_path / "subwords.model", size=30, normalization="none")
    ids = vocabulary.encode(text)
    assert ids[0] != ids[1] and vocabulary.decode(ids) == text
    assert vocabulary.normalize(DECOMPOSED) == DECOMPOSED
    with pytest.raises(UserError, match=r"normalization='nfd' must be one of nfc, none"):
        train(text, tmp_path / "subwords.model", size=30, normalization="nfd")


def test_vocabulary_of_version_0_1_0_encodes_as_before(tmp_path):
    """Its file has no normal form, and tokens that are named </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=50,
        pad_id=PAD,
        bos_id=BOS,
        eos_id=EOS,
        unk_id=UNK,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    old = SubwordVocabulary(model.getvalue())
    new = train(TEXT, tmp_path / "subwords.model", size=50)
    assert old.tokens(range(50)) == new.tokens(range(50))
    text = [*TEXT, "katze \u2581 u\u0308"]
    expected = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode(text)
    assert old.encode(text) == expected
    assert new.encode(TEXT) == expected[:-1]


def test_training_is_deterministic_and_load_restores_it(subwords, tmp_path):
    path = tmp_path / "run" / "subwords.model"
    again = train(iter(TEXT), path, size=50)
    assert again.fingerprint == subwords.fingerprint
    assert SubwordVocabulary.load(path).fingerprint == subwords.fingerprint
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a temporary file was left"
    assert train(TEXT, path, size=45).fingerprint != subwords.fingerprint


def test_vocabulary_is_learned_from_a_sample(tmp_path):
    sentences = [f"{a}{b} {b}{a}" for a in "abcdefghij" for b in "klmnopqrst"]
    path = tmp_path / "subwords.model"
    first = train(iter(sentences), path, size=35, sample=60)
    assert train(iter(sentences), path, size=35, sample=60).fingerprint == first.fingerprint
    assert train(sentences, path, size=35, sample=0).fingerprint != first.fingerprint
    everything = train(sentences, path, size=35)
    assert train(sentences, path, size=35, sample=100).fingerprint == everything.fingerprint
    with pytest.raises(UserError, match=r"vocabulary\.sample=-1 must be a number of sentences"):
        train(sentences, path, size=35, sample=-1)


def test_error_of_too_large_size_contains_the_largest_size(tmp_path):
    path = tmp_path / "subwords.model"
    with pytest.raises(UserError, match=r"set vocabulary\.size to (\d+) or less") as error:
        train(TEXT, path, size=5000)
    assert not path.exists()
    largest = int(str(error.value).split()[-3])
    assert len(train(TEXT, path, size=largest)) == largest
    with pytest.raises(UserError, match=rf"to {largest} or less"):
        train(TEXT, path, size=largest + 1)


def test_error_of_too_small_size_contains_the_smallest_size(tmp_path):
    path = tmp_path / "subwords.model"
    with pytest.raises(UserError, match="smaller than the number of characters") as error:
        train(TEXT, path, size=10)
    smallest = int(str(error.value).rstrip(".").split()[-1]) + 1
    assert len(train(TEXT, path, size=smallest)) == smallest


@pytest.mark.parametrize("content", [None, b"", b"half a model"])
def test_missing_or_damaged_file_is_an_error(tmp_path, content):
    path = tmp_path / "subwords.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"subwords\.model is missing or damaged"):
        SubwordVocabulary.load(path)


def test_training_prints_nothing(tmp_path, capfd):
    train(TEXT, tmp_path / "subwords.model", size=50)
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
    subwords = train(sentences, tmp_path / "subwords.model", size=128)
    for unit in ("ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"):
        for tens in ("zwan", "drei", "vier", "fünf", "sech", "sieb", "acht", "neun"):
            word = f"{unit}und{tens}{'ßig' if tens == 'drei' else 'zig'}"
            assert "und" in subwords.tokens(subwords.encode([word])[0])


@pytest.fixture
def symbols(tmp_path):
    return SymbolVocabulary.train(PRONUNCIATIONS, tmp_path / "symbols")


def test_symbols_are_collected_from_the_text(symbols):
    expected = [*SPECIAL, "</s>", "AH", "EY", "HH", "L", "OW", "a", "b", "e", "h", "l", "o"]
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
    tokens = symbols.tokens(symbols.encode(["a HH heaß </p>"])[0])
    assert tokens == ["a", "HH", "h", "e", "a", *["<unk>"] * 5]


def test_symbol_with_the_name_of_a_special_token_is_not_special(symbols):
    [ids] = symbols.encode(["</s> b"])
    assert min(ids) > UNK
    assert symbols.decode([ids]) == ["</s> b"]


def test_symbols_are_equal_if_their_normal_forms_are(tmp_path):
    composed, decomposed = "\u00e3", "a\u0303"
    vocabulary = SymbolVocabulary.train([composed, decomposed], tmp_path / "symbols")
    assert len(vocabulary) == len(SPECIAL) + 1
    assert vocabulary.encode([composed, decomposed]) == [[UNK + 1]] * 2
    old = SymbolVocabulary("\n".join((*SPECIAL, decomposed)).encode())
    assert old.encode([composed, decomposed]) == [[UNK + 1]] * 2
    assert old.decode([[UNK + 1]]) == [old.normalize(decomposed)] == [composed]


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
    train(text, path, size=45, lowercase=True)
    subwords = SubwordVocabulary.load(path)  # the file stores the lowercase option
    lowered = [sentence.lower() for sentence in text]
    assert subwords.encode(text) == subwords.encode(lowered)
    assert subwords.decode(subwords.encode(text)) == lowered


def test_config_selects_a_vocabulary_and_its_options():
    options = {"size": 9, "lowercase": True, "normalization": "nfc", "sample": 5}
    assert select_vocabulary(kind="bpe", **options) == (SubwordVocabulary, options)
    assert select_vocabulary(kind="symbols") == (SymbolVocabulary, {})
    with pytest.raises(UserError, match=r"vocabulary\.kind='symbol'; .* Did you mean 'symbols'"):
        select_vocabulary(kind="symbol")
    with pytest.raises(UserError, match=r"'symbols' has no option vocabulary\.size"):
        select_vocabulary(kind="symbols", size=9)
    with pytest.raises(UserError, match=r"'bpe' needs vocabulary\.size"):
        select_vocabulary(kind="bpe", lowercase=False)
