"""Numbers in words between two languages: an endless parallel corpus with nothing to download.

Which numbers: those up to `maximum` with at most `nonzero_digits` digits other than zero. So all
small numbers are among them, large ones are rounder (7,000,210 but not 7,654,321), and every
scale word occurs. How many digits a number has is drawn uniformly, so that short and long
wordings are balanced (short ones as far as distinct numbers reach).

Splits: `train`, `dev` and `test` share no number; 0 to 99 are always in `train`, since they are
the words that all others are made of. `test_long` has more non-zero digits than any number in
`train`, and wordings longer than any there, in both languages, made of the same number words.
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

_USED_UP = 1e-3  # share of new numbers in a draw, below which no more are looked for
_SMALL = 100  # numbers below are all in `train`


class Wording:
    """Says numbers up to `maximum` in one language of num2words."""

    def __init__(self, language: str, maximum: int):
        if language not in num2words.CONVERTER_CLASSES:
            raise UserError(_unknown_language(language))
        self.language = language
        self._converter = type(num2words.CONVERTER_CLASSES[language])()
        # num2words walks down its table of scale words from 10^600 or so at every step of every
        # number. Without those that cannot occur it says the same, four to nine times as fast.
        cards = getattr(self._converter, "cards", {})
        self._converter.cards = collections.OrderedDict(
            (value, word) for value, word in cards.items() if value <= maximum
        )

    def __call__(self, number: int) -> str:
        try:
            return self._converter.to_cardinal(number).strip()
        except Exception as error:  # a gap in num2words: whatever it trips over there
            raise UserError(
                f"num2words cannot say {number} in {self.language!r}: "
                "choose a smaller data.maximum or another language"
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
    """Draws the splits; see the module's docstring.

    Args:
        source: language to translate from, as num2words calls it.
        target: language to translate to.
        examples: numbers in `train`.
        held_out: numbers in each of `dev`, `test` and `test_long`.
        maximum: largest number of any split.
        nonzero_digits: most non-zero digits of a number in `train`, `dev` and `test`.
        seed: of the draw; the same seed gives the same splits on every machine.

    Raises:
        UserError: a language num2words does not know, or more numbers asked than exist.
    """
    digits = len(str(maximum))
    if examples < _SMALL or held_out < 1 or not 1 <= nonzero_digits < digits:
        raise UserError(
            f"data.examples={examples} must be at least {_SMALL}, data.held_out={held_out} at "
            f"least 1, and data.nonzero_digits={nonzero_digits} at least 1 and less than the "
            f"{digits} digits of data.maximum={maximum}"
        )
    wordings = Wording(source, maximum), Wording(target, maximum)
    rng = np.random.default_rng(seed)

    wanted = examples - _SMALL + 2 * held_out
    drawn = _draw_distinct(rng, wanted, range(1, nonzero_digits + 1), maximum)
    if len(drawn) < wanted:
        raise UserError(
            f"only {len(drawn) + _SMALL} numbers up to data.maximum={maximum} have at most "
            f"data.nonzero_digits={nonzero_digits} non-zero digits, but data.examples={examples} "
            f"and twice data.held_out={held_out} are asked for: raise one or lower the other"
        )
    dev, test, rest = np.split(drawn, [held_out, 2 * held_out])
    train = rng.permutation(np.concatenate([np.arange(_SMALL), rest]))
    splits = {
        split: TextPairs(*([say(n) for n in chosen.tolist()] for say in wordings))
        for split, chosen in {"train": train, "dev": dev, "test": test}.items()
    }

    candidates = _draw_distinct(rng, 10 * held_out, range(nonzero_digits + 1, digits + 1), maximum)
    worded = (tuple(say(n) for say in wordings) for n in candidates.tolist())
    longer = list(itertools.islice(_longer(worded, splits["train"]), held_out))
    if len(longer) < held_out:
        raise UserError(
            f"too few numbers up to data.maximum={maximum} are longer in words than those of "
            f"data.nonzero_digits={nonzero_digits}: raise the former or lower the latter"
        )
    return splits | {"test_long": TextPairs(*map(list, zip(*longer, strict=True)))}


def _longer(pairs: Iterable[tuple[str, ...]], than: TextPairs) -> Iterator[tuple[str, ...]]:
    """Those pairs whose both sides are longer than any of their language in `than`."""
    longest = max(map(len, than.sources)), max(map(len, than.targets))
    return (pair for pair in pairs if len(pair[0]) > longest[0] and len(pair[1]) > longest[1])


def _draw_distinct(
    rng: np.random.Generator, wanted: int, nonzero: range, maximum: int
) -> Int64[np.ndarray, " N"]:
    """Up to `wanted` distinct numbers from 100 to `maximum`, shuffled; fewer if there are fewer."""
    found = np.empty(0, np.int64)
    rate = 1.0
    while len(found) < wanted and rate > _USED_UP:
        drawn = _draw(rng, max(wanted, 1000), nonzero, len(str(maximum)))
        before = len(found)
        found = np.union1d(found, drawn[(drawn >= _SMALL) & (drawn <= maximum)])
        rate = (len(found) - before) / len(drawn)
    return rng.permutation(found)[:wanted]


def _draw(
    rng: np.random.Generator, count: int, nonzero: range, max_digits: int
) -> Int64[np.ndarray, " N"]:
    """Numbers whose digit count is uniform, and so is the count of non-zero ones among them."""
    digits = rng.integers(nonzero.start, max_digits + 1, (count, 1))
    filled = rng.integers(nonzero.start, np.minimum(digits, nonzero.stop - 1) + 1)
    place = np.arange(max_digits)
    # The leading digit is never zero: it ranks first. Places beyond the number rank last.
    rank = rng.random((count, max_digits)) + 2 * (place >= digits) - 1 * (place == digits - 1)
    is_nonzero = rank.argsort(axis=1).argsort(axis=1) < filled
    values = rng.integers(1, 10, (count, max_digits)) * is_nonzero
    return values @ 10**place


def _unknown_language(language: str) -> str:
    known = sorted(num2words.CONVERTER_CLASSES)
    near = difflib.get_close_matches(language, known, n=3, cutoff=0.4)
    near = near or [name for name in known if name[:1] == language[:1].lower()] or known
    return f"num2words has no language {language!r}: the nearest are {', '.join(near)}"
