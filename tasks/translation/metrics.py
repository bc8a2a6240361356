"""Measures of outputs: `measure(hypotheses, references, language) -> float`.

Each hypothesis has one reference or several, of which the nearest counts, or all for BLEU and chrF.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import sacrebleu
import sacremoses
from rapidfuzz.distance import Levenshtein

References = Sequence[Sequence[str]]  # of each hypothesis in turn


def bleu(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Corpus BLEU of plain, cased text in percent: sacrebleu's default, tokenised as 13a."""
    del language
    return sacrebleu.corpus_bleu(hypotheses, _columns(references)).score


def bleu_tok_lc(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Corpus BLEU of Moses-tokenised, lower-cased text, as the Multi30k literature reports it."""
    moses = sacremoses.MosesTokenizer(lang=language)

    def tokenise(text):
        return moses.tokenize(text, return_str=True, escape=False).lower()

    tokenised = [[tokenise(text) for text in texts] for texts in references]
    # `force`: sacrebleu warns of text that looks tokenised, which this is on purpose.
    return sacrebleu.corpus_bleu(
        list(map(tokenise, hypotheses)), _columns(tokenised), tokenize="none", force=True
    ).score


def chrf(hypotheses: Sequence[str], references: References, language: str) -> float:
    """chrF2 in percent (Popović 2015)."""
    del language
    return sacrebleu.corpus_chrf(hypotheses, _columns(references)).score


def exact_match(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Share of sentences that are a reference to the letter."""
    del language
    return float(np.mean([h in r for h, r in zip(hypotheses, references, strict=True)]))


def per(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Phoneme error rate: edits to the nearest references over the lengths of these, as a fraction.

    As Toshniwal & Livescu 2016 score. Of several that are equally near they take the first that
    the lexicon names, and this the shortest, so that their order is nothing.
    """
    del language
    edits, lengths = np.sum(_nearest(hypotheses, references), axis=0)
    return float(edits / lengths)


def wer(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Word error rate of pronunciations: the share of words that equal no reference."""
    del language
    return float(np.mean([edits > 0 for edits, _ in _nearest(hypotheses, references)]))


OF_TEXT: dict[str, Callable[..., float]] = {
    "bleu": bleu,
    "bleu_tok_lc": bleu_tok_lc,
    "chrf": chrf,
    "exact_match": exact_match,
    "per": per,
    "wer": wer,
}


def signature() -> str:
    """How `bleu` is computed, in sacrebleu's words."""
    metric = sacrebleu.BLEU()
    metric.corpus_score(["a signature"], [["needs a score"]])
    return str(metric.get_signature())


def _columns(references: References) -> list[tuple]:
    """The first reference of all, the second, ...: None where there is none."""
    return list(itertools.zip_longest(*references))


def _nearest(hypotheses: Sequence[str], references: References) -> list[tuple[int, int]]:
    """Edits of whole symbols to the nearest reference, and how many symbols that has."""
    return [
        min((Levenshtein.distance(h.split(), r.split()), len(r.split())) for r in several)
        for h, several in zip(hypotheses, references, strict=True)
    ]
