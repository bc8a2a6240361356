"""Metrics of generated text, against values computed by hand."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from tasks.translation import metrics
from tests import naive
from training.errors import UserError

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


def test_length_interval_includes_its_upper_edge():
    lengths = np.array([5, 1, 16, 4, 8, 17])
    references = [["a"], ["-"], ["c"], ["d"], ["-"], ["f"]]
    found = metrics.by_length("exact_match", (4, 8, 12, 16), lengths, "abcdef", references, "de")
    assert found == {"exact_match_1-4": 0.5, "exact_match_5-8": 0.5, "exact_match_13-16": 1.0}


def test_bleu_of_words_is_cased_and_keeps_the_tokens():
    """3 of 4 words, 2 of 3, 1 of 2 n-grams match; 4-grams do not in one of two sentences.

    Without any matching 4-gram, BLEU is 0.
    """
    hypotheses, references = (
        ["der Hund , bellt", "a b c d e"],
        [["der Hund , Bellt"], ["a b c d e"]],
    )
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25
    assert metrics.bleu_words(hypotheses, references, "de") == pytest.approx(expected)
    assert metrics.bleu_words(["a b c x e f g"], [["a b c d e f g"]], "de") == 0


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


CHINESE = [
    ["\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002"],
    ["\u6211\u4eec\u5728\u8fd9\u91cc\uff0c\u4f60\u597d"],
]


@pytest.mark.parametrize("language", ["zh", "zh_CN", "zh-Hant", "zho_Hans", "cmn", "ZH"])
def test_bleu_of_chinese_counts_characters(language):
    correct = [several[0] for several in CHINESE]
    assert metrics.bleu(correct, CHINESE, language) == pytest.approx(100)
    partly = [correct[0], correct[1][:5]]
    expected = sacrebleu.corpus_bleu(partly, [correct], tokenize="zh").score
    assert metrics.bleu(partly, CHINESE, language) == pytest.approx(expected)
    assert 0 < expected < 100


def test_signature_names_the_tokenizer_of_the_language():
    assert "tok:zh" in metrics.signature("zh_TW")
    for language in ("de", "en", "phonemes", "fr_CA", ""):
        assert "tok:13a" in metrics.signature(language)


@pytest.mark.parametrize(
    "language, extra, module", [("ja", "ja", "ja_mecab"), ("kor", "ko", "ko_mecab")]
)
def test_missing_tokenizer_is_an_error_that_names_the_package(language, extra, module, monkeypatch):
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{module}.MeCab", None)
    message = rf"data\.target='{language}': run `pip install 'sacrebleu\[{extra}\]'`"
    for function in (metrics.signature, lambda x: metrics.check(("bleu", "chrf"), x)):
        with pytest.raises(UserError, match=message):
            function(language)
    metrics.check(("chrf", "perplexity"), language)


def test_moses_does_not_tokenize_chinese():
    with pytest.raises(UserError, match=r"'bleu_tok_lc' is not defined for data\.target='zh_CN'"):
        metrics.check(("bleu_tok_lc",), "zh_CN")
    metrics.check(("bleu_tok_lc",), "de")


@pytest.mark.parametrize("name", ["bleu", "bleu_tok_lc"])
def test_constant_metric_cannot_rank_checkpoints(name):
    thai = [["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"], ["\u0e02\u0e2d\u0e1a\u0e04\u0e38\u0e13"]]
    with pytest.raises(UserError, match=f"train.best='dev/{name}' cannot rank .* dev/chrf"):
        metrics.check_varies(name, thai, "th")
    for varying in ("chrf", "exact_match", "per", "wer"):
        metrics.check_varies(varying, thai, "th")
    metrics.check_varies(name, [["four words and more"], ["two words"]], "th")
