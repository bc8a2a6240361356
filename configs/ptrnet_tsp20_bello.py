r"""Pointer network on the traveling salesman problem with 20 cities, by actor-critic training.

Paper: Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", table 2,
TSP20, "RL pretraining": greedy 3.89, sampling 3.82, Active Search 3.82 (optimum 3.82).

    python train.py --config=configs/ptrnet_tsp20_bello.py --workdir=runs/ptrnet_tsp20_bello

The other columns of the table are searches with the trained policy, on 1,000 instances:

    python eval.py --workdir=runs/ptrnet_tsp20_bello --config.evaluation.instances=1000 \
      --config.search='{"kind": "sampling", "samples": 1280000, "batch": 1280, "temperature": 2.0}'
    python eval.py --workdir=runs/ptrnet_tsp20_bello --config.evaluation.instances=1000 \
      --config.search='{"kind": "active", "steps": 10000, "batch": 128, "learning_rate": 1e-5,
      "baseline_decay": 0.99, "pretrained": True}'

Active Search from scratch has `"steps": 100000`, `"learning_rate": 1e-3` and `"pretrained": False`.
The rows of 50 and 100 cities are in configs/sweeps/bello_tables.py.

Sized for the paper: not run to its end here. The paper does not give the number of updates; 200,000
are assumed. Deviations: the linear embedding of the cities is merged with the input matrices of the
LSTMs; tours start at the first city, where the paper's decoder chooses the start; the process block
of the critic has no LSTM.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp20_bello"
    config.task = "pointing.tsp_reinforce"
    config.rows = ("bello2016/table 2/TSP20, greedy",)
    config.paper = printed(config.rows)
    config.data = {"sizes": (20, 20)}
    config.evaluation.sizes = (20,)
    config.train.best = "dev/gap_n20"
    config.reinforce = {
        "samples": 1,
        "starts": "first",
        "baseline": {"kind": "critic", "steps": 3},
    }
    config.model.update(
        decoder_inputs="annotations", glimpses=1, logit_clipping=10.0, init_limit=0.08
    )
    config.optimizer = {
        "method": "adam",
        "schedule": "exponential",
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
        "decay_rate": 0.96,
        "decay_every": 5_000,
    }
    if variant != "smoke":
        config.evaluation.instances = 1_000
        config.train.update(steps=200_000, eval_every=5_000, checkpoint_every=5_000)
    return config
