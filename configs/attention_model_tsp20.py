"""Attention Model on the traveling salesman problem with 20 cities, trained by REINFORCE.

Paper: Kool et al. 2019, "Attention, Learn to Solve Routing Problems!", table 1, n = 20: greedy tour
length 3.85, an optimality gap of 0.34%, after 128 million instances.

    python train.py --config=configs/attention_model_tsp20.py --workdir=runs/attention_model_tsp20

Expected: `test/length_n20` 3.860 and `test/gap_n20` 0.0069, after 1.28 million instances; see
results/attention_model_tsp20.

Sized for a laptop: an hour and a half on one CPU core. Layers, heads and widths are the paper's.
Deviations: the first city is given; training starts 20 tours, one at each city (Kwon et al. 2020,
"POMO"), with the mean length of the other 19 as the baseline (leave-one-out), and evaluation starts
at the first city; layer normalization in place of batch normalization; biases and Glorot
initialization in the encoder; batches of 16 instances instead of 512, and 1.28 million in total; a
learning rate of 5e-4 with cosine decay instead of 1e-4.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp20_rl
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp20_rl.get_config(variant)
    config.name = "attention_model_tsp20"
    config.rows = ("kool2019/table 1/AM (greedy), n = 20",)
    config.paper = printed(config.rows)
    config.model = {
        "kind": "attention_model",
        "init_limit": 0.0,
        "hidden": 128,
        "layers": 3,
        "heads": 8,
        "logit_clipping": 10.0,
    }
    config.reinforce.starts = "each"
    if variant == "smoke":
        config.model.update(hidden=8, layers=1, heads=2)
    else:
        config.reinforce.samples = 20
        config.train.update(steps=80_000, eval_every=2_000, checkpoint_every=2_000)
    return config
