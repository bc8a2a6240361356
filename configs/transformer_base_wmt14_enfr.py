"""Transformer (base model) on WMT 2014 English-French.

Paper: Vaswani et al. 2017, "Attention Is All You Need", Table 2: BLEU 38.1 on newstest2014. See
configs/transformer_base_wmt14.py for the variant of BLEU and the commands; this file sets the
values that differ. The paper has 32,000 word pieces; here they are byte-pair encodings.

    python -m tasks.prepare wmt14_translate/fr-en --data_dir=DIR
    python train.py --config=configs/transformer_base_wmt14_enfr.py --config.data.data_dir=DIR

Sized for the paper: 8 accelerators or a TPU slice. Not yet trained.
"""

from ml_collections import ConfigDict

from configs import transformer_base_wmt14
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is the smoke variant of the base model."""
    config = transformer_base_wmt14.get_config(variant)
    config.name = "transformer_base_wmt14_enfr"
    config.rows = ("vaswani2017/table 2/base, En-Fr",)
    config.paper = printed(config.rows)
    config.data.update(dataset="wmt14_translate/fr-en", target="fr")
    if variant != "smoke":
        config.vocabulary.size = 32_000
    return config
