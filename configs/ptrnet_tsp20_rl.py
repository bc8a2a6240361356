"""Pointer network on the traveling salesman problem with 20 cities, trained by REINFORCE.

Paper: Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", table 2:
greedy tour length 3.89, 1.8% above the optimum of its test instances, 3.82. The encoder follows
Kool et al. 2019, "Attention, Learn to Solve Routing Problems!"; configs/attention_model_tsp20.py
has their decoder, too. Their rollout baseline, except for its moving average in the first epoch, is
{"kind": "rollout", "update_every": 2_500, "instances": 10_000} (tasks/pointing/tsp_reinforce.py).

    python train.py --config=configs/ptrnet_tsp20_rl.py --workdir=runs/ptrnet_tsp20_rl

Expected: `test/gap_n20` 0.0185, after 6.9 million tours of 432,000 instances. For sampling and
Active Search with the trained policy, see configs/ptrnet_tsp20_bello.py.

Sized for a laptop: 90 minutes on one CPU core. As in Bello et al. the decoder is an LSTM that reads
annotations. Deviations from Bello et al.: a Transformer encoder; no glimpse; tours start at city 0;
the leave-one-out baseline instead of a critic, with 16 tours for each of 16 instances per step
instead of one tour for each of 128; a learning rate of 5e-4 with cosine decay instead of 1e-3 with
exponential decay. Deviations of the encoder from Kool et al.: two layers instead of three, and
layer normalization in place of batch normalization.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp20_rl"
    config.task = "pointing.tsp_reinforce"
    config.rows = ("bello2016/table 2/TSP20, greedy",)
    config.paper = printed(config.rows)
    config.data = {"sizes": (20, 20)}
    config.evaluation.sizes = (20,)
    config.train.best = "dev/gap_n20"
    config.reinforce = {"samples": 16, "starts": "first", "baseline": {"kind": "leave_one_out"}}
    if variant == "smoke":
        config.reinforce.update(samples=3)
    else:
        config.batch = 16
        config.model.update(decoder_inputs="annotations", logit_clipping=10.0)
        config.model.encoder = {"kind": "transformer", "layers": 2, "heads": 8}
        config.optimizer.update(learning_rate=5e-4, clip=1.0)
        config.train.update(steps=27_000, eval_every=1_000, checkpoint_every=1_000)
    return config
