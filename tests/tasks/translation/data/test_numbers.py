"""Numbers written as words."""

import re

import num2words
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.corpora import load
from tasks.translation.data.numbers import NumberSpeller
from training.errors import UserError

OPTIONS = {
    "examples": 4000,
    "held_out": 200,
    "maximum": 999_999,
    "nonzero_digits": 4,
    "seed": 3,
}
WORDS = {  # English, German, French
    0: ("zero", "null", "zéro"),
    7: ("seven", "sieben", "sept"),
    21: ("twenty-one", "einundzwanzig", "vingt et un"),
    97: ("ninety-seven", "siebenundneunzig", "quatre-vingt-dix-sept"),
    1016: ("one thousand and sixteen", "eintausendsechzehn", "mille seize"),
    35_400: (
        "thirty-five thousand, four hundred",
        "fünfunddreißigtausendvierhundert",
        "trente-cinq mille quatre cents",
    ),
}
GERMAN_WORD = (
    "hundert|tausend|und|zwanzig|(?:drei|vier|fünf|sech|sieb|acht|neun)(?:zig|ßig)|zehn|elf|zwölf|"
    "sechzehn|siebzehn|eins|ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|null"
)


@pytest.fixture(scope="module")
def splits():
    return load("numbers", "en", "de", **OPTIONS)


def english_words(sentences):
    return {word for sentence in sentences for word in re.findall(r"\w+", sentence)}


def german_words(sentences):
    words = set()
    for sentence in sentences:
        matches = re.findall(GERMAN_WORD, sentence)
        assert "".join(matches) == sentence
        words |= set(matches)
    return words


@pytest.mark.parametrize("number", WORDS)
def test_number_is_spelled_out(number):
    spelled = tuple(NumberSpeller(language, 10**6)(number) for language in ("en", "de", "fr"))
    assert spelled == WORDS[number]


@given(
    st.integers(0, 10**9),
    st.sampled_from(["en", "de", "fr", "es", "nl", "hu", "ru", "ja"]),
)
@settings(deadline=None, max_examples=100)
def test_shortened_table_of_scale_words_gives_the_same_words(number, language):
    expected = num2words.num2words(number, lang=language).strip()
    assert NumberSpeller(language, 10**9)(number) == expected


def test_every_pair_is_a_translation(splits):
    english, german = NumberSpeller("en", 10**6), NumberSpeller("de", 10**6)
    translation = {english(n): german(n) for n in range(1000)}
    for pairs in splits.values():
        for source, target in pairs:
            assert translation.get(source, target) == target
    assert ("twenty-one", "einundzwanzig") in set(splits["train"])


def test_splits_are_disjoint_and_have_the_configured_sizes(splits):
    sizes = {name: len(pairs) for name, pairs in splits.items()}
    assert sizes == {"train": 4000, "dev": 200, "test": 200, "test_long": 200}
    for side in (0, 1):
        sentences = [pair[side] for pairs in splits.values() for pair in pairs]
        assert len(set(sentences)) == len(sentences) == 4600


def test_numbers_below_100_are_in_train(splits):
    assert {NumberSpeller("en", 100)(n) for n in range(100)} <= set(splits["train"].sources)


def test_test_long_is_longer_than_train_with_the_same_words(splits):
    train, long = splits["train"], splits["test_long"]
    assert min(map(len, long.sources)) > max(map(len, train.sources))
    assert min(map(len, long.targets)) > max(map(len, train.targets))
    assert english_words(long.sources) <= english_words(train.sources)
    assert german_words(long.targets) <= german_words(train.targets)
    for split in ("dev", "test"):
        assert english_words(splits[split].sources) <= english_words(train.sources)


def test_short_and_long_numbers_are_balanced(splits):
    sources = splits["train"].sources
    thousands = sum("thousand" in source for source in sources)
    six_digits = sum(
        "hundred" in source.split(" thousand")[0] and "thousand" in source for source in sources
    )
    # 90% of uniform numbers would have six digits; only 999 of the 4,000 can be below 1,000.
    assert 0.6 < thousands / len(sources) < 0.9
    assert 0.2 < six_digits / len(sources) < 0.4


def test_splits_depend_on_the_seed(splits):
    again = load("numbers", "en", "de", **OPTIONS)
    other = load("numbers", "en", "de", **OPTIONS | {"seed": 4})
    for name, pairs in splits.items():
        assert list(again[name]) == list(pairs)
        assert list(other[name]) != list(pairs)
    assert again["train"].fingerprint == splits["train"].fingerprint
    assert again["train"].fingerprint != other["train"].fingerprint


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("eng", {}, "num2words has no language 'eng'; similar names are en"),
        (
            "en",
            {"examples": 60_000, "maximum": 99_999},
            r"^Only .* fewer than data\.examples=60000 .*: raise the former",
        ),
        (
            "en",
            {"nonzero_digits": 6},
            r"data\.nonzero_digits=6 .* less than the 6 digits",
        ),
        ("en", {"examples": 10}, r"data\.examples=10 must be at least 100"),
        ("en", {"held_out": 150, "maximum": 10_999}, "Too few numbers"),
        ("am", {}, "num2words cannot spell .* in 'am'"),
    ],
)
def test_unsatisfiable_options_are_an_error(source, options, message):
    with pytest.raises(UserError, match=message):
        load("numbers", source, "de", **OPTIONS | options)
