"""Measures of translations, by hand."""

import pytest
import sacrebleu

from tasks import measures


def test_exact_match_is_the_share_of_equal_sentences():
    assert measures.exact_match(
        ["a b", "c", "d"], [["a b"], ["x", "c"], ["D"]], "de"
    ) == pytest.approx(2 / 3)


def test_tokenised_bleu_does_not_mind_case_and_cuts_punctuation_off():
    hypotheses, references = ["Der Hund läuft, sagt er."], [["der hund Läuft , sagt Er ."]]
    assert measures.bleu_tok_lc(hypotheses, references, "de") == pytest.approx(100)
    assert measures.bleu(hypotheses, references, "de") < 50


def test_tokenised_bleu_is_bleu_of_what_moses_makes():
    hypothesis, reference = "ein Mann, der rennt, lacht.", "ein Mann, der läuft, lacht."
    by_hand = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(
        ["ein mann , der rennt , lacht ."], [["ein mann , der läuft , lacht ."]]
    )
    assert measures.bleu_tok_lc([hypothesis], [[reference]], "de") == pytest.approx(by_hand.score)
