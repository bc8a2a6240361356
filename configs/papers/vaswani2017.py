"""Vaswani et al. 2017, "Attention Is All You Need"."""


def _dev(perplexity: float, bleu: float) -> dict[str, float]:
    """Return perplexity per word piece and BLEU on newstest2013."""
    return {"dev/perplexity": perplexity, "dev/bleu": bleu}


ROWS = {
    "table 2": {
        "base, En-De": {"test/bleu": 27.3},
        "big, En-De": {"test/bleu": 28.4},
        "base, En-Fr": {"test/bleu": 38.1},
        "big, En-Fr": {"test/bleu": 41.8},
    },
    "table 3": {
        "base": _dev(4.92, 25.8),
        "A, h 1": _dev(5.29, 24.9),
        "A, h 4": _dev(5.00, 25.5),
        "A, h 16": _dev(4.91, 25.8),
        "A, h 32": _dev(5.01, 25.4),
        "B, d_k 16": _dev(5.16, 25.1),
        "B, d_k 32": _dev(5.01, 25.4),
        "C, N 2": _dev(6.11, 23.7),
        "C, N 4": _dev(5.19, 25.3),
        "C, N 8": _dev(4.88, 25.5),
        "C, d_model 256": _dev(5.75, 24.5),
        "C, d_model 1024": _dev(4.66, 26.0),
        "C, d_ff 1024": _dev(5.12, 25.4),
        "C, d_ff 4096": _dev(4.75, 26.2),
        "D, dropout 0.0": _dev(5.77, 24.6),
        "D, dropout 0.2": _dev(4.95, 25.5),
        "D, label smoothing 0.0": _dev(4.67, 25.3),
        "D, label smoothing 0.2": _dev(5.47, 25.7),
        "E, learned positions": _dev(4.92, 25.7),
        "big": _dev(4.33, 26.4),
    },
}
