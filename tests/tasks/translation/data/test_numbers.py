import re

import num2words
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.corpora import load
from tasks.translation.data.numbers import Wording
from training.errors import UserError

OPTIONS = {
    "examples": 4000,
    "held_out": 200,
    "maximum": 999_999,
    "nonzero_digits": 4,
    "seed": 3,
}
BY_HAND = {  # number: English, German, French
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
GERMAN = (
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
        found = re.findall(GERMAN, sentence)
        assert "".join(found) == sentence
        words |= set(found)
    return words


@pytest.mark.parametrize("number", BY_HAND)
def test_wordings_are_those_a_person_would_write(number):
    assert tuple(Wording(lang, 10**6)(number) for lang in ("en", "de", "fr")) == BY_HAND[number]


@given(
    st.integers(0, 10**9),
    st.sampled_from(["en", "de", "fr", "es", "nl", "hu", "ru", "ja"]),
)
@settings(deadline=None, max_examples=200)
def test_the_shortened_table_of_scales_changes_no_wording(number, language):
    expected = num2words.num2words(number, lang=language).strip()
    assert Wording(language, 10**9)(number) == expected


def test_every_pair_is_a_translation(splits):
    value = {Wording("en", 10**6)(n): Wording("de", 10**6)(n) for n in range(1000)}
    for pairs in splits.values():
        for source, target in pairs:
            assert value.get(source, target) == target
    assert ("twenty-one", "einundzwanzig") in set(splits["train"])


def test_sizes_and_disjoint_splits(splits):
    assert {name: len(pairs) for name, pairs in splits.items()} == {
        "train": 4000,
        "dev": 200,
        "test": 200,
        "test_long": 200,
    }
    for side in (0, 1):
        everything = [pair[side] for pairs in splits.values() for pair in pairs]
        assert len(set(everything)) == len(everything) == 4600


def test_numbers_below_a_hundred_are_all_trained(splits):
    assert {Wording("en", 100)(n) for n in range(100)} <= set(splits["train"].sources)


def test_long_numbers_are_longer_than_any_trained_but_use_no_new_word(splits):
    train, long = splits["train"], splits["test_long"]
    assert min(map(len, long.sources)) > max(map(len, train.sources))
    assert min(map(len, long.targets)) > max(map(len, train.targets))
    assert english_words(long.sources) <= english_words(train.sources)
    assert german_words(long.targets) <= german_words(train.targets)
    for split in ("dev", "test"):
        assert english_words(splits[split].sources) <= english_words(train.sources)


def test_long_and_short_numbers_are_balanced(splits):
    thousands = sum("thousand" in source for source in splits["train"].sources)
    six_digits = sum(
        "hundred" in source.split(" thousand")[0] and "thousand" in source
        for source in splits["train"].sources
    )
    # 999 of the 4,000 numbers could be below a thousand; drawn evenly, six digits would be 90%.
    assert 0.6 < thousands / 4000 < 0.9
    assert 0.2 < six_digits / 4000 < 0.4


def test_the_seed_decides(splits):
    again = load("numbers", "en", "de", **OPTIONS)
    other = load("numbers", "en", "de", **OPTIONS | {"seed": 4})
    for name, pairs in splits.items():
        assert list(again[name]) == list(pairs)
        assert list(other[name]) != list(pairs)
    assert again["train"].fingerprint == splits["train"].fingerprint
    assert again["train"].fingerprint != other["train"].fingerprint


@pytest.mark.parametrize(
    "source, options, sentence",
    [
        ("eng", {}, "num2words has no language 'eng': the nearest are en"),
        (
            "en",
            {"examples": 60_000, "maximum": 99_999},
            "only .* are asked for: raise one",
        ),
        (
            "en",
            {"nonzero_digits": 6},
            r"data\.nonzero_digits=6 .* less than the 6 digits",
        ),
        ("en", {"examples": 10}, r"data\.examples=10 must be at least 100"),
        ("en", {"held_out": 150, "maximum": 10_999}, "too few numbers"),
        ("am", {}, "num2words cannot say .* in 'am'"),
    ],
)
def test_impossible_requests_are_named(source, options, sentence):
    with pytest.raises(UserError, match=sentence):
        load("numbers", source, "de", **OPTIONS | options)
