"""Transformer (big model) on WMT 2014 English–German.

Paper: Vaswani et al. 2017, "Attention Is All You Need", Table 2: BLEU 28.4 on newstest2014, after
3.5 days on 8 P100 GPUs. See configs/transformer_base_wmt14.py for the variant of BLEU, the corpus
and the commands; this file sets the values that differ.

    python train.py --config=configs/transformer_big_wmt14.py --config.data.data_dir=DIR

Sized for the paper: 214M parameters, for 8 accelerators or a TPU slice. The 20 checkpoints that are
averaged take 51 GB, optimizer state included. Not yet trained.

The paper's batch fits one device of 80 GB with `model.remat=none`: `--plan=v5p:2x2x1
--config.packing.rows=384`, where each of four devices has the 96 rows of a batch, reports 20.2 GiB
per device, 17.8 GiB of them activations. This is an estimate: no GPU has run it.
"""

from ml_collections import ConfigDict

from configs import transformer_base_wmt14
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is the smoke variant of the base model with this dropout."""
    config = transformer_base_wmt14.get_config(variant)
    config.name = "transformer_big_wmt14"
    config.rows = ("vaswani2017/table 2/big, En-De",)
    config.paper = printed(config.rows)
    config.model.dropout = 0.3
    if variant == "smoke":
        return config

    config.model.update(width=1024, hidden=4096, heads=16)
    config.optimizer.learning_rate = (1024 * 4000) ** -0.5
    # Checkpoints every 10 minutes, at the paper's 1.0 s per step.
    config.train.update(steps=300_000, checkpoint_every=600, keep=20, average=20)
    return config
