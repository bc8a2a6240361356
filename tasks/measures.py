"""Measures of translations: `measure(hypotheses, references, language) -> float`."""

from collections.abc import Sequence

import numpy as np
import sacrebleu
import sacremoses


def bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """Corpus BLEU of plain, cased text in percent: sacrebleu's default, tokenised as 13a."""
    del language
    return sacrebleu.corpus_bleu(hypotheses, [references]).score


def bleu_tok_lc(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """Corpus BLEU of Moses-tokenised, lower-cased text, as the Multi30k literature reports it."""
    moses = sacremoses.MosesTokenizer(lang=language)
    tokenised = [
        [moses.tokenize(text, return_str=True, escape=False).lower() for text in side]
        for side in (hypotheses, references)
    ]
    # `force`: sacrebleu warns of text that looks tokenised, which this is on purpose.
    return sacrebleu.corpus_bleu(tokenised[0], [tokenised[1]], tokenize="none", force=True).score


def chrf(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """chrF2 in percent (Popović 2015)."""
    del language
    return sacrebleu.corpus_chrf(hypotheses, [references]).score


def exact_match(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """Share of sentences that are the reference to the letter."""
    del language
    return float(np.mean([h == r for h, r in zip(hypotheses, references, strict=True)]))


OF_TEXT = {"bleu": bleu, "bleu_tok_lc": bleu_tok_lc, "chrf": chrf, "exact_match": exact_match}
