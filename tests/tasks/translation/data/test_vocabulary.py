import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.numbers import numbers
from tasks.translation.data.vocabulary import BOS, EOS, PAD, UNK, BytePairs, Symbols, of_kind
from training.errors import UserError

TEXT = [
    "the cat sat on the mat",
    "die Katze saß auf der Matte",
    "a < b > s / p",
    "übermäßig",
]
WORDS = st.text(sorted({letter for line in TEXT for letter in line} - {" "}), min_size=1)
UNITS = ("ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
TENS = ("zwan", "drei", "vier", "fünf", "sech", "sieb", "acht", "neun")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return BytePairs.train(TEXT, tmp_path_factory.mktemp("vocabulary") / "pieces.model", size=50)


def test_special_pieces_have_their_numbers(vocabulary):
    assert len(vocabulary) == 50
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert vocabulary.pieces([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]


@given(
    st.lists(st.one_of(WORDS, st.sampled_from(["</s>", "<pad>", "<s>"])), max_size=6).map(" ".join)
)
@settings(deadline=None, max_examples=200)
def test_decoding_gives_back_what_was_encoded(vocabulary, sentence):
    [ids] = vocabulary.encode([sentence])
    assert vocabulary.decode([ids]) == [sentence]
    # Special numbers never come from text, not even from text that spells their names.
    assert not {PAD, BOS, EOS, UNK} & set(ids)


def test_decoding_stops_at_the_end_and_skips_padding(vocabulary):
    [ids] = vocabulary.encode(["the cat"])
    assert vocabulary.decode([[BOS, PAD, *ids, EOS, *ids], [EOS], []]) == [
        "the cat",
        "",
        "",
    ]


def test_an_unseen_character_is_unknown_and_the_rest_survives(vocabulary):
    [ids] = vocabulary.encode(["the Ω cat"])
    assert ids.count(UNK) == 1
    [decoded] = vocabulary.decode([ids])
    assert decoded.split()[0] == "the" and decoded.split()[-1] == "cat"


def test_training_is_deterministic_and_load_gives_the_same(vocabulary, tmp_path):
    path = tmp_path / "run" / "pieces.model"
    again = BytePairs.train(iter(TEXT), path, size=50)
    assert again.fingerprint == vocabulary.fingerprint
    assert BytePairs.load(path).fingerprint == vocabulary.fingerprint
    assert [p.name for p in path.parent.iterdir()] == ["pieces.model"], "a temporary file was left"
    assert BytePairs.train(TEXT, path, size=45).fingerprint != vocabulary.fingerprint


def test_a_size_beyond_the_text_names_the_largest(tmp_path):
    path = tmp_path / "pieces.model"
    with pytest.raises(UserError, match=r"set vocabulary\.size to (\d+) or less") as error:
        BytePairs.train(TEXT, path, size=5000)
    assert not path.exists()
    largest = int(str(error.value).split()[-3])
    assert len(BytePairs.train(TEXT, path, size=largest)) == largest
    with pytest.raises(UserError, match=rf"to {largest} or less"):
        BytePairs.train(TEXT, path, size=largest + 1)


def test_a_size_below_the_alphabet_says_so(tmp_path):
    with pytest.raises(UserError, match="does not even hold the characters") as error:
        BytePairs.train(TEXT, tmp_path / "pieces.model", size=10)
    smallest = int(str(error.value).split()[-1])
    assert len(BytePairs.train(TEXT, tmp_path / "pieces.model", size=smallest + 1)) == smallest + 1


@pytest.mark.parametrize("content", [None, b"", b"half a model"])
def test_a_missing_or_damaged_model_is_named(tmp_path, content):
    path = tmp_path / "pieces.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"pieces\.model is missing or damaged"):
        BytePairs.load(path)


def test_training_is_silent(tmp_path, capfd):
    BytePairs.train(TEXT, tmp_path / "pieces.model", size=50)
    assert capfd.readouterr() == ("", "")


def test_128_pieces_leave_tens_and_units_of_german_numbers_apart(tmp_path):
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
    vocabulary = BytePairs.train(sentences, tmp_path / "pieces.model", size=128)
    for units in UNITS:
        for tens in TENS:
            ending = "ßig" if tens == "drei" else "zig"
            assert "und" in vocabulary.pieces(vocabulary.encode([f"{units}und{tens}{ending}"])[0])


SPOKEN = ["h e l l o", "HH AH L OW", "a", "EY", "</s> b"]


@pytest.fixture
def symbols(tmp_path):
    return Symbols.train(SPOKEN, tmp_path / "symbols")


def test_symbols_are_those_that_occur(symbols):
    assert symbols.pieces(range(len(symbols))) == [
        *("<pad>", "<s>", "</s>", "<unk>", "AH", "EY", "HH", "L", "OW", "a", "b", "e", "h", "l"),
        "o",
    ]


@given(st.lists(st.lists(st.sampled_from(["h", "e", "l", "HH", "AH", "L"])).map(" ".join)))
def test_symbols_come_back_as_they_were(sentences):
    model = "\n".join(("<pad>", "<s>", "</s>", "<unk>", *("h", "e", "l", "HH", "AH", "L")))
    symbols = Symbols(model.encode())
    ids = symbols.encode(sentences)
    assert symbols.decode(ids) == sentences
    assert all(i > UNK for row in ids for i in row)
    assert symbols.decode([[BOS, *row, EOS, 5, PAD] for row in ids]) == sentences


def test_a_word_that_is_no_symbol_is_spelt_out(symbols):
    [expected] = symbols.encode(["h e l l o"])
    assert symbols.encode(["hello", "Hello", "h ello", "a"])[:3] == [expected] * 3
    assert symbols.pieces(symbols.encode(["a HH heaß </s>"])[0]) == [
        *("a", "HH", "h", "e", "a", "<unk>"),
        *(["<unk>"] * 3 + ["<unk>"]),
    ]


def test_symbols_are_loaded_as_they_were_learnt(symbols, tmp_path):
    again = Symbols.load(tmp_path / "symbols")
    assert again.fingerprint == symbols.fingerprint
    assert again.encode(SPOKEN) == symbols.encode(SPOKEN)
    (tmp_path / "symbols").write_text("a\nb")
    with pytest.raises(UserError, match="missing or damaged"):
        Symbols.load(tmp_path / "symbols")


def test_a_kind_takes_its_own_options():
    assert of_kind(kind="bpe", size=9) == (BytePairs, {"size": 9})
    assert of_kind(kind="symbols") == (Symbols, {})
    with pytest.raises(UserError, match=r"vocabulary\.kind='symbol', .* Did you mean 'symbols'"):
        of_kind(kind="symbol")
    with pytest.raises(UserError, match=r"'symbols' has no option vocabulary\.size, only none"):
        of_kind(kind="symbols", size=9)
    with pytest.raises(UserError, match=r"'bpe' needs vocabulary\.size"):
        of_kind(kind="bpe")
