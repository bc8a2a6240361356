"""Vaswani et al. 2017, "Attention Is All You Need"."""

ROWS = {
    "table 2": {
        "base, En-De": {"test/bleu": 27.3},
        "big, En-De": {"test/bleu": 28.4},
    },
}
