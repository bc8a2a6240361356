"""Table 2 of Bello et al. 2016, "RL pretraining": tours of 20, 50 and 100 cities.

One run per number of cities trains the policy and evaluates greedy tours. The other columns are
searches with the trained policy (configs/ptrnet_tsp20_bello.py shows both commands).

    python sweep.py --sweep=configs/sweeps/bello_tables.py

| cities | temperature of sampling | learning rate of Active Search | optimum |
|---|---|---|---|
| 20 | 2.0 | 1e-5 | 3.82 |
| 50 | 2.2 | 1e-5 | 5.68 |
| 100 | 1.5 | 1e-6 | 7.77 |

Sampling is the best of 1,280,000 tours; table 4 has 128 to 1,280,000 samples (`"samples"` of the
search) for 50 and 100 cities. Active Search has 10,000 steps of 128 tours, and from scratch
(`"pretrained": False`) 100,000 steps, 200,000 for 100 cities. The column greedy@16 is the shortest
of the greedy tours of 16 policies: train them with `--config.seed=0` to `15`, and evaluate

    python eval.py --workdir=runs/bello_0/50 --workdir=runs/bello_1/50 ...

Sized for the paper: one GPU per run; not run to its end here.
"""

from functools import partial

from configs.papers import printed
from configs.papers.bello2016 import rows_of
from training.plots import metric_bars
from training.sweeps import Run

LEARNING_RATES = {20: 1e-3, 50: 1e-3, 100: 1e-4}  # by number of cities
METRICS = tuple(f"test/length_n{n}" for n in LEARNING_RATES)


def runs():
    for n, learning_rate in LEARNING_RATES.items():
        yield Run(
            config="configs/ptrnet_tsp20_bello.py",
            labels={"cities": n},
            overrides={
                "data.sizes": (n, n),
                "evaluation.sizes": (n,),
                "train.best": f"dev/gap_n{n}",
                "optimizer.learning_rate": learning_rate,
            },
            rows=rows_of(n),
            paper=printed(rows_of(n)),
        )


figure = partial(metric_bars, metrics=METRICS)
