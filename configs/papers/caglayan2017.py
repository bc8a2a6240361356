"""Caglayan et al. 2017, "LIUM-CVC Submissions for WMT17 Multimodal Translation Task"."""

ROWS = {"table 1": {"text-only GRU with attention, test2016": {"test/bleu_tok_lc": 38.1}}}
