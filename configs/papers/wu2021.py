"""Wu et al. 2021, "Good for Misconceived Reasons"."""

ROWS = {"table 1": {"text-only Transformer-Tiny, test2016": {"test/bleu_tok_lc": 41.02}}}
