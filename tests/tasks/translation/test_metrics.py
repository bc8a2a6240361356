"""Metrics of generated text, against values computed by hand."""

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from tasks.translation import metrics
from tests import naive

PRONUNCIATION = st.lists(st.sampled_from(["AA", "B", "AO", "K"]), max_size=5).map(" ".join)
REFERENCES = st.lists(PRONUNCIATION.filter(bool), min_size=1, max_size=3)
OUTPUTS = st.lists(st.tuples(PRONUNCIATION, REFERENCES), min_size=1, max_size=5)


def test_exact_match_is_the_fraction_of_equal_sentences():
    references = [["a b"], ["x", "c"], ["D"]]
    assert metrics.exact_match(["a b", "c", "d"], references, "de") == pytest.approx(2 / 3)


def test_tokenized_bleu_ignores_case_and_splits_punctuation():
    hypotheses, references = ["Der Hund läuft, sagt er."], [["der hund Läuft , sagt Er ."]]
    assert metrics.bleu_tok_lc(hypotheses, references, "de") == pytest.approx(100)
    assert metrics.bleu(hypotheses, references, "de") < 50


def test_tokenized_bleu_equals_bleu_of_tokenized_text():
    hypothesis, reference = "ein Mann, der rennt, lacht.", "ein Mann, der läuft, lacht."
    expected = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(
        ["ein mann , der rennt , lacht ."], [["ein mann , der läuft , lacht ."]]
    )
    score = metrics.bleu_tok_lc([hypothesis], [[reference]], "de")
    assert score == pytest.approx(expected.score)


def test_bleu_supports_any_number_of_references():
    hypotheses, first, second = ["a b c d e", "f g h i j"], ["a b c d x", "f g h i j"], "a b c d e"
    expected = sacrebleu.corpus_bleu(hypotheses, [first, [second, None]]).score
    references = [[first[0], second], [first[1]]]
    assert metrics.bleu(hypotheses, references, "de") == pytest.approx(expected)
    assert expected == pytest.approx(100)
    assert metrics.bleu(hypotheses, [[x] for x in first], "de") < 90


def test_error_rates_of_known_pronunciations():
    hypotheses = ["HH AH L OW", "W ER D Z", ""]
    references = [["HH EH L OW", "HH AH L OW"], ["W ER L D"], ["AA B", "AA"]]
    assert metrics.wer(hypotheses, references, "phonemes") == pytest.approx(2 / 3)
    # 0 edits of 4 phonemes; insertion of L and deletion of Z, 2 of 4; insertion of AA, 1 of 1.
    assert metrics.per(hypotheses, references, "phonemes") == pytest.approx(3 / 9)


@given(OUTPUTS)
def test_error_rates_equal_a_loop(outputs):
    """Toshniwal & Livescu 2016: edits to the closest reference over its length."""
    edits, length, wrong = 0, 0, 0
    for hypothesis, references in outputs:
        distances = [
            (naive.edit_distance(hypothesis.split(), reference.split()), len(reference.split()))
            for reference in references
        ]
        closest = sorted(distances)[0]
        edits, length = edits + closest[0], length + closest[1]
        wrong += hypothesis not in references
    hypotheses, references = zip(*outputs, strict=True)
    assert metrics.per(hypotheses, references, "phonemes") == pytest.approx(edits / length)
    assert metrics.wer(hypotheses, references, "phonemes") == pytest.approx(wrong / len(outputs))


@given(OUTPUTS, st.randoms())
def test_order_of_references_has_no_effect(outputs, random):
    hypotheses, references = zip(*outputs, strict=True)
    shuffled = [random.sample(alternatives, len(alternatives)) for alternatives in references]
    for metric in (metrics.per, metrics.wer, metrics.exact_match):
        assert metric(hypotheses, shuffled, "x") == metric(hypotheses, references, "x")
