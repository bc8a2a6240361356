"""Measures of translations, by hand."""

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from tasks.translation import metrics
from tests import naive

SPOKEN = st.lists(st.sampled_from(["AA", "B", "AO", "K"]), max_size=5).map(" ".join)
SAID = st.lists(
    st.tuples(SPOKEN, st.lists(SPOKEN.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=5
)


def test_exact_match_is_the_share_of_equal_sentences():
    assert metrics.exact_match(
        ["a b", "c", "d"], [["a b"], ["x", "c"], ["D"]], "de"
    ) == pytest.approx(2 / 3)


def test_tokenised_bleu_does_not_mind_case_and_cuts_punctuation_off():
    hypotheses, references = ["Der Hund läuft, sagt er."], [["der hund Läuft , sagt Er ."]]
    assert metrics.bleu_tok_lc(hypotheses, references, "de") == pytest.approx(100)
    assert metrics.bleu(hypotheses, references, "de") < 50


def test_tokenised_bleu_is_bleu_of_what_moses_makes():
    hypothesis, reference = "ein Mann, der rennt, lacht.", "ein Mann, der läuft, lacht."
    by_hand = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(
        ["ein mann , der rennt , lacht ."], [["ein mann , der läuft , lacht ."]]
    )
    assert metrics.bleu_tok_lc([hypothesis], [[reference]], "de") == pytest.approx(by_hand.score)


def test_bleu_takes_any_number_of_references():
    hypotheses, first, second = ["a b c d e", "f g h i j"], ["a b c d x", "f g h i j"], "a b c d e"
    both = sacrebleu.corpus_bleu(hypotheses, [first, [second, None]]).score
    references = [[first[0], second], [first[1]]]
    assert metrics.bleu(hypotheses, references, "de") == pytest.approx(both)
    assert both == pytest.approx(100)
    assert metrics.bleu(hypotheses, [[x] for x in first], "de") < 90


def test_error_rates_by_hand():
    hypotheses = ["HH AH L OW", "W ER D Z", ""]
    references = [["HH EH L OW", "HH AH L OW"], ["W ER L D"], ["AA B", "AA"]]
    assert metrics.wer(hypotheses, references, "phonemes") == pytest.approx(2 / 3)
    # 0 of 4; L put in and Z left out, 2 of 4; AA left out, 1 of 1.
    assert metrics.per(hypotheses, references, "phonemes") == pytest.approx(3 / 9)


@given(SAID)
def test_error_rates_equal_a_plain_loop(said):
    """Toshniwal & Livescu 2016: the nearest reference, its edits, its length."""
    edits, length, wrong = 0, 0, 0
    for spoken, several in said:
        by_distance = [
            (naive.edit_distance(spoken.split(), right.split()), len(right.split()))
            for right in several
        ]
        nearest = sorted(by_distance)[0]
        edits, length = edits + nearest[0], length + nearest[1]
        wrong += spoken not in several
    hypotheses, references = zip(*said, strict=True)
    assert metrics.per(hypotheses, references, "phonemes") == pytest.approx(edits / length)
    assert metrics.wer(hypotheses, references, "phonemes") == pytest.approx(wrong / len(said))


@given(SAID, st.randoms())
def test_the_order_of_references_is_nothing(said, random):
    hypotheses, references = zip(*said, strict=True)
    shuffled = [random.sample(several, len(several)) for several in references]
    for measure in (metrics.per, metrics.wer, metrics.exact_match):
        assert measure(hypotheses, shuffled, "x") == measure(hypotheses, references, "x")
