"""Metrics of generated text: `metric(hypotheses, references, language) -> float`.

A hypothesis may have several references; BLEU and chrF use all of them, the other metrics the
closest one.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import sacrebleu
import sacremoses
from rapidfuzz.distance import Levenshtein

References = Sequence[Sequence[str]]  # one or more for each hypothesis


def bleu(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute corpus BLEU of plain, cased text in percent, with sacrebleu's default tokenizer."""
    del language
    return sacrebleu.corpus_bleu(hypotheses, _transpose(references)).score


def bleu_tok_lc(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute corpus BLEU of Moses-tokenized, lowercased text, as reported for Multi30k."""
    moses = sacremoses.MosesTokenizer(lang=language)

    def tokenize(text):
        return moses.tokenize(text, return_str=True, escape=False).lower()

    tokenized = [[tokenize(text) for text in texts] for texts in references]
    # `force` disables sacrebleu's warning about text that looks tokenized.
    return sacrebleu.corpus_bleu(
        list(map(tokenize, hypotheses)), _transpose(tokenized), tokenize="none", force=True
    ).score


def chrf(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute chrF2 in percent (Popović 2015)."""
    del language
    return sacrebleu.corpus_chrf(hypotheses, _transpose(references)).score


def exact_match(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute the fraction of hypotheses that equal a reference."""
    del language
    return float(np.mean([h in r for h, r in zip(hypotheses, references, strict=True)]))


def per(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute the phoneme error rate: edits to the closest references over their total length.

    Source: Toshniwal & Livescu 2016. If several references are equally close, the paper uses the
    first in the lexicon. This function uses the shortest, so that the order has no effect.
    """
    del language
    edits, lengths = np.sum(_closest(hypotheses, references), axis=0)
    return float(edits / lengths)


def wer(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute the word error rate of pronunciations: the fraction that equals no reference."""
    del language
    return float(np.mean([edits > 0 for edits, _ in _closest(hypotheses, references)]))


TEXT_METRICS: dict[str, Callable[..., float]] = {
    "bleu": bleu,
    "bleu_tok_lc": bleu_tok_lc,
    "chrf": chrf,
    "exact_match": exact_match,
    "per": per,
    "wer": wer,
}


def signature() -> str:
    """Return sacrebleu's signature of `bleu`, which identifies the tokenizer and the version."""
    metric = sacrebleu.BLEU()
    metric.corpus_score(["a signature"], [["needs a score"]])
    return str(metric.get_signature())


def _transpose(references: References) -> list[tuple]:
    """Return the first reference of every hypothesis, the second, ...; missing ones are None."""
    return list(itertools.zip_longest(*references))


def _closest(hypotheses: Sequence[str], references: References) -> list[tuple[int, int]]:
    """Return the edit distance, in symbols, to the closest reference, and its length."""
    return [
        min((Levenshtein.distance(h.split(), r.split()), len(r.split())) for r in several)
        for h, several in zip(hypotheses, references, strict=True)
    ]
