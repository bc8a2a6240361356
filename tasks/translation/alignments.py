"""Hand alignments of words, and the alignment error rate."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from tasks.text import decode_lines, read_bytes
from tasks.translation.data.tokenized import TokenizedPairs
from training.errors import UserError

Link = tuple[int, int]  # indices of a source word and a target word, counted from 0
_LINK = re.compile(r"(\d+)([-pP?])(\d+)")


class HandAlignment(NamedTuple):
    """Links of a sentence pair; sure links are possible links too."""

    sure: set[Link]
    possible: set[Link]


def read_alignments(
    path: str, lengths: Sequence[tuple[int, int]], *, from_one: bool, reverse: bool
) -> list[HandAlignment]:
    """Read hand alignments, one sentence pair per line.

    Sure links are written `i-j`, where i and j are the indices of the source and the target word,
    and possible links `ipj`, `iPj` or `i?j`. This is the form `talp` of the English-German
    alignments of RWTH Aachen, and the form of the alignments of Moses if all links are sure.

    Args:
        path: UTF-8 text, optionally compressed.
        lengths: numbers of source and target words of each sentence pair.
        from_one: whether the first word has index 1 instead of 0.
        reverse: whether i is the target word and j the source word.

    Raises:
        UserError: if the file does not have one line per pair, or a line is not of this form, or an
            index is out of range.
    """
    lines = decode_lines(read_bytes(Path(path)), path)
    if len(lines) != len(lengths):
        raise UserError(
            f"{path} has {len(lines)} lines for {len(lengths)} sentence pairs: it must have one "
            "line per pair."
        )
    alignments = []
    for number, (line, pair) in enumerate(zip(lines, lengths, strict=True), 1):
        sure, possible = set(), set()
        for text in line.split():
            if not (match := _LINK.fullmatch(text)):
                raise UserError(
                    f"{path}, line {number}: '{text}' is not a link; write i-j for a sure link and "
                    "ipj for a possible one."
                )
            link = int(match[1]) - from_one, int(match[3]) - from_one
            link = link[::-1] if reverse else link
            if not all(0 <= index < length for index, length in zip(link, pair, strict=True)):
                raise UserError(
                    f"{path}, line {number}: the link {text} is outside of a pair of {pair[0]} and "
                    f"{pair[1]} words; if indices count from 1, pass --alignments_from_one, and if "
                    "the target comes first, --alignments_reversed."
                )
            possible.add(link)
            if match[2] == "-":
                sure.add(link)
        alignments.append(HandAlignment(sure, possible))
    return alignments


def alignment_error_rate(found: Iterable[set[Link]], alignments: Iterable[HandAlignment]) -> float:
    """Compute `1 - (|A & S| + |A & P|) / (|A| + |S|)` over all pairs.

    Source: Och & Ney 2003, eq. 17: A are the links found, S the sure and P the possible ones.
    """
    correct = total = 0
    for links, (sure, possible) in zip(found, alignments, strict=True):
        correct += len(links & sure) + len(links & possible)
        total += len(links) + len(sure)
    return 1.0 - correct / total if total else 0.0


def links_of(pairs: TokenizedPairs, positions: Iterable[Int[np.ndarray, " _"]]) -> list[set[Link]]:
    """Return the links of each pair, at most one for each target word.

    A word that is aligned with the end of the source has no link.

    Args:
        pairs: one token per word.
        positions: source position of each target token.
    """
    return [
        {(int(s), t) for t, s in enumerate(aligned[: target - 1]) if s < source - 1}
        for aligned, source, target in zip(
            positions, pairs.source.lengths, pairs.target.lengths, strict=True
        )
    ]
