"""Transformer (big model) on WMT 2014 English-French.

Paper: Vaswani et al. 2017, "Attention Is All You Need", Table 2: BLEU 41.8 on newstest2014 (the
text of section 6.1 says 41.0). Dropout is 0.1 instead of 0.3. See
configs/transformer_base_wmt14_enfr.py for the corpus and configs/transformer_big_wmt14.py for the
model.

    python train.py --config=configs/transformer_big_wmt14_enfr.py --config.data.data_dir=DIR

Sized for the paper: 8 accelerators or a TPU slice. Not yet trained.
"""

from ml_collections import ConfigDict

from configs import transformer_big_wmt14
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is the smoke variant of the base model."""
    config = transformer_big_wmt14.get_config(variant)
    config.name = "transformer_big_wmt14_enfr"
    config.rows = ("vaswani2017/table 2/big, En-Fr",)
    config.paper = printed(config.rows)
    config.data.update(dataset="wmt14_translate/fr-en", target="fr")
    config.model.dropout = 0.1
    if variant != "smoke":
        config.vocabulary.size = 32_000
    return config
