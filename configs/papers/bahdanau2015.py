"""Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate"."""

# BLEU of all sentences, and of those without unknown words.
ROWS: dict[str, dict[str, dict[str, float]]] = {
    "table 1": {
        "RNNencdec-30": {"test/bleu_words": 13.93, "test/bleu_words_known": 24.19},
        "RNNsearch-30": {"test/bleu_words": 21.50, "test/bleu_words_known": 31.44},
        "RNNencdec-50": {"test/bleu_words": 17.82, "test/bleu_words_known": 26.71},
        "RNNsearch-50": {"test/bleu_words": 26.75, "test/bleu_words_known": 34.16},
        "RNNsearch-50*": {"test/bleu_words": 28.45, "test/bleu_words_known": 36.15},
    },
    "figure 2": {"BLEU by length": {}},
}
