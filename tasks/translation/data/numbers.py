"""Synthetic corpus: numbers written as words in two languages.

The corpus contains numbers up to `maximum` with at most `nonzero_digits` nonzero digits. It thus
contains all small numbers, while large ones are round (7,000,210 but not 7,654,321), and every
scale word occurs. The number of digits is sampled uniformly, so that short and long number words
are balanced (short ones as far as there are enough distinct numbers).

`train`, `dev` and `test` are disjoint; 0 to 99 are always in `train`, because all other numbers are
composed of their words. The numbers in `test_long` have more nonzero digits than any in `train`,
and their words are longer in both languages but use the same vocabulary.
"""

import collections
import difflib
import itertools
from collections.abc import Iterable, Iterator

import num2words
import numpy as np
from jaxtyping import Int64

from tasks.translation.data.pairs import TextPairs
from training.errors import UserError

_MIN_NEW_FRACTION = 1e-3  # sampling stops if a smaller fraction of the sampled numbers is new
_MAX_MAXIMUM = 10**18  # numbers are int64
_MAX_EXAMPLES = 10**7  # of all splits, which are in memory
_SMALL = 100  # smaller numbers are all in `train`


class NumberSpeller:
    """Spells out numbers up to `maximum` in a language that num2words supports."""

    def __init__(self, language: str, maximum: int):
        if language not in num2words.CONVERTER_CLASSES:
            raise UserError(_unknown_language(language))
        self.language = language
        self._converter = type(num2words.CONVERTER_CLASSES[language])()
        # num2words searches its table of scale words linearly, starting at about 10^600. Removing
        # words above the maximum does not change the output and is four to nine times as fast.
        cards = getattr(self._converter, "cards", {})
        self._converter.cards = collections.OrderedDict(
            (value, word) for value, word in cards.items() if value <= maximum
        )

    def __call__(self, number: int) -> str:
        try:
            return self._converter.to_cardinal(number).strip()
        except Exception as error:  # num2words raises many types for unsupported numbers
            raise UserError(
                f"num2words cannot spell {number} in {self.language!r}: "
                "choose a smaller data.maximum or another language."
            ) from error


def numbers(
    source: str,
    target: str,
    *,
    examples: int,
    held_out: int,
    maximum: int,
    nonzero_digits: int,
    seed: int,
) -> dict[str, TextPairs]:
    """Generate the splits that the module's docstring describes.

    Args:
        source: source language, as named by num2words.
        target: target language.
        examples: size of `train`.
        held_out: size of each of `dev`, `test` and `test_long`.
        maximum: largest number of any split.
        nonzero_digits: maximum count of nonzero digits in `train`, `dev` and `test`.
        seed: random seed; the splits are the same on every machine.

    Raises:
        UserError: if num2words does not support a language, or there are not enough numbers.
    """
    digits = len(str(maximum))
    if examples < _SMALL or held_out < 1 or not 1 <= nonzero_digits < digits:
        raise UserError(
            f"data.examples={examples} must be at least {_SMALL}, data.held_out={held_out} at "
            f"least 1, and data.nonzero_digits={nonzero_digits} at least 1 and less than the "
            f"{digits} digits of data.maximum={maximum}."
        )
    if maximum >= _MAX_MAXIMUM or examples + 2 * held_out > _MAX_EXAMPLES or seed < 0:
        raise UserError(
            f"data.maximum={maximum} must be less than 10^18, data.examples={examples} and twice "
            f"data.held_out={held_out} together at most 10^7, and data.seed={seed} at least 0."
        )
    spellers = NumberSpeller(source, maximum), NumberSpeller(target, maximum)
    rng = np.random.default_rng(seed)

    count = examples - _SMALL + 2 * held_out
    sampled = _sample_distinct(rng, count, range(1, nonzero_digits + 1), maximum)
    if len(sampled) < count:
        raise UserError(
            f"Only {len(sampled) + _SMALL} numbers up to data.maximum={maximum} have at most "
            f"data.nonzero_digits={nonzero_digits} nonzero digits, fewer than data.examples="
            f"{examples} and twice data.held_out={held_out}: raise the former or lower the latter."
        )
    dev, test, rest = np.split(sampled, [held_out, 2 * held_out])
    train = rng.permutation(np.concatenate([np.arange(_SMALL), rest]))
    splits = {
        split: TextPairs(*([spell(n) for n in values.tolist()] for spell in spellers))
        for split, values in {"train": train, "dev": dev, "test": test}.items()
    }

    nonzero = range(nonzero_digits + 1, digits + 1)
    candidates = _sample_distinct(rng, 10 * held_out, nonzero, maximum)
    spelled = (tuple(spell(n) for spell in spellers) for n in candidates.tolist())
    test_long = list(itertools.islice(_longer_than(spelled, splits["train"]), held_out))
    if len(test_long) < held_out:
        raise UserError(
            f"Too few numbers up to data.maximum={maximum} have longer words than numbers with "
            f"data.nonzero_digits={nonzero_digits}: raise the former or lower the latter."
        )
    return splits | {"test_long": TextPairs(*map(list, zip(*test_long, strict=True)))}


def _longer_than(pairs: Iterable[tuple[str, ...]], train: TextPairs) -> Iterator[tuple[str, ...]]:
    """Select the pairs that are longer in both languages than every training pair."""
    source, target = max(map(len, train.sources)), max(map(len, train.targets))
    return (pair for pair in pairs if len(pair[0]) > source and len(pair[1]) > target)


def _sample_distinct(
    rng: np.random.Generator, count: int, nonzero: range, maximum: int
) -> Int64[np.ndarray, " N"]:
    """Sample `count` distinct numbers from 100 to `maximum`, or fewer if there are fewer."""
    distinct = np.empty(0, np.int64)
    new_fraction = 1.0
    while len(distinct) < count and new_fraction > _MIN_NEW_FRACTION:
        sampled = _sample(rng, max(count, 1000), nonzero, len(str(maximum)))
        before = len(distinct)
        distinct = np.union1d(distinct, sampled[(sampled >= _SMALL) & (sampled <= maximum)])
        new_fraction = (len(distinct) - before) / len(sampled)
    return rng.permutation(distinct)[:count]


def _sample(
    rng: np.random.Generator, count: int, nonzero: range, max_digits: int
) -> Int64[np.ndarray, " N"]:
    """Sample numbers with a uniform count of digits, and of nonzero digits given that count."""
    digits = rng.integers(nonzero.start, max_digits + 1, (count, 1))
    nonzero_digits = rng.integers(nonzero.start, np.minimum(digits, nonzero.stop - 1) + 1)
    place = np.arange(max_digits)
    # Rank the digits randomly. The leading digit is never zero and ranks first; places beyond the
    # number rank last.
    rank = rng.random((count, max_digits)) + 2 * (place >= digits) - 1 * (place == digits - 1)
    is_nonzero = rank.argsort(axis=1).argsort(axis=1) < nonzero_digits
    values = rng.integers(1, 10, (count, max_digits)) * is_nonzero
    return values @ 10**place


def _unknown_language(language: str) -> str:
    known = sorted(num2words.CONVERTER_CLASSES)
    similar = difflib.get_close_matches(language, known, n=3, cutoff=0.4)
    similar = similar or [name for name in known if name[:1] == language[:1].lower()] or known
    return f"num2words has no language {language!r}; similar names are {', '.join(similar)}."
