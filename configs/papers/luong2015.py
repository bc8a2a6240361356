"""Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation"."""

_METRICS = ("test/perplexity", "test/bleu_words", "test/bleu_words_replaced")


def _values(*values: float) -> dict[str, float]:
    """Return perplexity, BLEU, and BLEU after the replacement of unknown words, if printed."""
    return dict(zip(_METRICS, values, strict=False))


ROWS: dict[str, dict[str, dict[str, float]]] = {
    "table 1": {
        "base": _values(10.6, 11.3),
        "+ reverse": _values(9.9, 12.6),
        "+ dropout": _values(8.1, 14.0),
        "+ global (location)": _values(7.3, 16.8),
        "+ feed input": _values(6.4, 18.1),
        "local-p (general) + feed input, + unk replace": _values(5.9, 19.0, 20.9),
    },
    "table 3": {
        "base (reverse)": _values(14.3, 16.9),
        "+ global (location)": _values(12.7, 19.1),
        "+ feed": _values(10.9, 20.1),
        "+ global (dot) + drop + feed, + unk": _values(9.7, 22.8, 24.9),
    },
    "table 4": {
        "global (location)": _values(6.4, 18.1, 19.3),
        "global (dot)": _values(6.1, 18.6, 20.5),
        "global (general)": _values(6.1, 17.3, 19.1),
        "local-m (dot)": _values(7.0),
        "local-m (general)": _values(6.2, 18.6, 20.4),
        "local-p (dot)": _values(6.6, 18.0, 19.6),
        "local-p (general)": _values(5.9, 19.0, 20.9),
    },
    "table 6": {  # of test_aligned, by eval.py --alignments
        "global (location)": {"test_aligned/aer": 0.39},
        "local-m (general)": {"test_aligned/aer": 0.34},
        "local-p (general)": {"test_aligned/aer": 0.36},
    },
    "figure 5": {"learning curves": {}},
    "figure 6": {"BLEU by length": {}},
}
