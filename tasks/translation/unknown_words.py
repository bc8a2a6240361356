"""Unknown words: their replacement by the attention, and the sentences without them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from tasks.text import decode_lines, read_bytes
from tasks.translation.data.tokenized import TokenizedPairs
from tasks.translation.data.vocabulary import Vocabulary
from tasks.vocabulary import EOS, SPECIAL, UNK
from training.errors import UserError


def replace_unknown(
    outputs: Iterable[Integer[np.ndarray, " _"]],
    positions: Iterable[Integer[np.ndarray, " _"]],
    sources: Iterable[str],
    vocabulary: Vocabulary,
    dictionary: Mapping[str, str],
) -> list[str]:
    """Replace each unknown word of translations by the translation of the aligned source word.

    Source: Luong et al. 2015, sec. 4.2; Luong et al. 2015b, sec. 3. A source word that is not in
    the dictionary is copied, as names are. A word that is aligned with the end of the source stays
    unknown.

    Args:
        outputs: target tokens.
        positions: source position of each target token.
        sources: source sentences of words separated by spaces.
        vocabulary: word vocabulary of the target language.
        dictionary: translations of source words.
    """
    translations = []
    for ids, aligned, source in zip(outputs, positions, sources, strict=True):
        words = source.split()
        end = next((t for t, i in enumerate(ids) if i == EOS), len(ids))
        translation = vocabulary.tokens(ids[:end])
        for t, word in enumerate(translation):
            if word == SPECIAL[UNK] and aligned[t] < len(words):
                source_word = words[aligned[t]]
                translation[t] = dictionary.get(source_word, source_word)
        translations.append(" ".join(translation))
    return translations


def read_dictionary(path: str) -> dict[str, str]:
    """Read a dictionary with a source word and its translation per line; '' is an empty one.

    Raises:
        UserError: if the file cannot be read, or a line does not have two words.
    """
    dictionary: dict[str, str] = {}
    lines = decode_lines(read_bytes(Path(path)), path) if path else []
    for number, line in enumerate(lines, 1):
        if len(words := line.split()) != 2:
            raise UserError(
                f"{path}, line {number} must be a source word and its translation, separated by a "
                "space: correct the line."
            )
        dictionary.setdefault(*words)
    return dictionary


def known_pairs(pairs: TokenizedPairs) -> Integer[np.ndarray, " M"]:
    """Return the indices of the pairs without UNK on either side."""
    known = np.ones(len(pairs), bool)
    for side in pairs.sides:
        for i in np.flatnonzero(known):
            known[i] = UNK not in side.tokens(np.array([i]))
    return np.flatnonzero(known)
