"""Metrics of generated text: `metric(hypotheses, references, language) -> float`.

A hypothesis may have several references; BLEU and chrF use all of them, the other metrics the
closest one.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import sacrebleu
import sacremoses
from jaxtyping import Int
from rapidfuzz.distance import Levenshtein

from training.errors import UserError, did_you_mean

References = Sequence[Sequence[str]]  # one or more for each hypothesis

# ISO 639-3 codes, as in FLORES, of the languages for which sacrebleu has a tokenizer.
_ISO_639_1 = {"zho": "zh", "cmn": "zh", "yue": "zh", "jpn": "ja", "kor": "ko"}


def bleu(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute corpus BLEU of plain, cased text in percent, with sacrebleu's tokenizers.

    The tokenizer is `zh`, `ja-mecab` or `ko-mecab` for these languages, and `13a` for all others.
    """
    return _sacrebleu(language).corpus_score(hypotheses, _transpose(references)).score


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


def bleu_words(hypotheses: Sequence[str], references: References, language: str) -> float:
    """Compute corpus BLEU of the words between spaces, cased, as `multi-bleu.perl` does.

    This is the metric of Bahdanau et al. 2015 and Luong et al. 2015 for text that is tokenized.
    Unlike the other BLEU metrics it is not smoothed: without a matching 4-gram it is 0.
    """
    del language
    return sacrebleu.corpus_bleu(
        hypotheses, _transpose(references), "none", tokenize="none", force=True
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
    "bleu_words": bleu_words,
    "chrf": chrf,
    "exact_match": exact_match,
    "per": per,
    "wer": wer,
}


def by_length(
    name: str,
    edges: Sequence[int],
    lengths: Int[np.ndarray, " N"],
    hypotheses: Sequence[str],
    references: References,
    language: str,
) -> dict[str, float]:
    """Compute a metric for each interval of source lengths that is not empty, as `bleu_9-16`.

    Args:
        name: name of the metric.
        edges: largest lengths of the intervals.
        lengths: lengths of the sources in tokens, with EOS.
        hypotheses: translations.
        references: references of each translation.
        language: target language.
    """
    values = {}
    for shortest, longest in zip((0, *edges), edges, strict=False):
        if len(chosen := np.flatnonzero((lengths > shortest) & (lengths <= longest)).tolist()):
            values[f"{name}_{shortest + 1}-{longest}"] = TEXT_METRICS[name](
                [hypotheses[i] for i in chosen], [references[i] for i in chosen], language
            )
    return values


# Variants for word vocabularies: sentences without unknown words, whose translations must not
# contain any; and all sentences, with unknown words of the translation replaced.
VARIANTS = ("known", "replaced")


def split_name(name: str) -> tuple[str, str]:
    """Split 'bleu_known' into the name of the metric and its variant in `VARIANTS`, or ''."""
    base, _, variant = name.rpartition("_")
    return (base, variant) if base in TEXT_METRICS and variant in VARIANTS else (name, "")


def check_names(names: Iterable[str], others: Iterable[str]) -> None:
    """Check that each name is one of `TEXT_METRICS`, a variant of one, or one of `others`.

    Raises:
        UserError: otherwise.
    """
    known = (*TEXT_METRICS, *others)
    for name in names:
        if split_name(name)[0] not in known:
            raise UserError(f"There is no metric '{name}'." + did_you_mean(name, known))


def check_variants(names: Iterable[str], vocabulary: str, has_attention: bool) -> None:
    """Check that the kind of vocabulary and the model have what the variants of metrics need.

    Raises:
        UserError: otherwise.
    """
    for name in names:
        _, variant = split_name(name)
        if variant and vocabulary != "words":
            raise UserError(
                f"The metric '{name}' needs unknown words: remove it from metrics, or set "
                "vocabulary.kind to 'words'."
            )
        if variant == "replaced" and not has_attention:
            raise UserError(
                f"The metric '{name}' needs attention: remove it from metrics, or set "
                "model.attention.alignment to another value than 'none'."
            )


def check(names: Iterable[str], language: str) -> None:
    """Check that metrics are defined for a target language and that their tokenizers are installed.

    Raises:
        UserError: otherwise.
    """
    names = {split_name(name)[0] for name in names}
    if "bleu" in names:
        _sacrebleu(language)
    if "bleu_tok_lc" in names and _language_code(language) in ("zh", "ja"):
        raise UserError(
            f"The metric 'bleu_tok_lc' is not defined for data.target={language!r}, because "
            "Moses does not separate its words: use 'bleu' or 'chrf'."
        )


def check_varies(name: str, references: References, language: str) -> None:
    """Check that a metric distinguishes correct translations from empty ones.

    BLEU does not if no reference has four words, as in a language that is written without spaces.

    Raises:
        UserError: if the metric has the same value for both.
    """
    correct = [several[0] for several in references]
    metric = TEXT_METRICS[name]
    if metric(correct, references, language) == metric([""] * len(correct), references, language):
        raise UserError(
            f"train.best='dev/{name}' cannot rank checkpoints: no reference of the dev split has "
            f"four words under the tokenizer for data.target={language!r}; name the target files "
            "by the code of their language, such as zh, or set train.best to dev/chrf."
        )


def signature(language: str) -> str:
    """Return sacrebleu's signature of `bleu`, which identifies the tokenizer and the version.

    Raises:
        UserError: if the tokenizer is not installed.
    """
    metric = _sacrebleu(language)
    metric.corpus_score(["a signature"], [["needs a score"]])
    return str(metric.get_signature())


def _sacrebleu(language: str) -> sacrebleu.BLEU:
    code = _language_code(language)
    try:
        return sacrebleu.BLEU(trg_lang=code)
    except (RuntimeError, AssertionError) as error:  # no MeCab, or another dictionary
        raise UserError(
            f"The metric 'bleu' needs the tokenizer of sacrebleu for data.target={language!r}: run "
            f"`pip install 'sacrebleu[{code}]'`, or replace 'bleu' by 'chrf' in metrics and in "
            "train.best."
        ) from error


def _language_code(language: str) -> str:
    """Return the language of a code with script or region: 'zh' for 'zh_CN', 'zh-Hant', 'zho'."""
    subtag = re.split(r"[-_.]", language.lower(), maxsplit=1)[0]
    return _ISO_639_1.get(subtag, subtag)


def _transpose(references: References) -> list[tuple]:
    """Return the first reference of every hypothesis, the second, ...; missing ones are None."""
    return list(itertools.zip_longest(*references))


def _closest(hypotheses: Sequence[str], references: References) -> list[tuple[int, int]]:
    """Return the edit distance, in symbols, to the closest reference, and its length."""
    return [
        min((Levenshtein.distance(h.split(), r.split()), len(r.split())) for r in several)
        for h, several in zip(hypotheses, references, strict=True)
    ]
