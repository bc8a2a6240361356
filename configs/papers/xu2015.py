"""Xu et al. 2015, "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention"."""  # noqa: E501


def _bleu(*percent: float) -> dict[str, float]:
    """BLEU-1 to BLEU-4 without brevity penalty."""
    return {f"test/bleu_{n}": value for n, value in enumerate(percent, 1)}


ROWS = {
    "table 1": {
        "Flickr8k, soft": _bleu(67.0, 44.8, 29.9, 19.5),
        "Flickr8k, hard": _bleu(67.0, 45.7, 31.4, 21.3),
        "COCO, soft": _bleu(70.7, 49.2, 34.4, 24.3),
        "COCO, hard": _bleu(71.8, 50.4, 35.7, 25.0),
    },
}
