"""Table 2 of Bello et al. 2016, "RL pretraining": tours of 20, 50 and 100 cities.

One run per number of cities trains the policy and evaluates greedy tours. The other columns are
searches with the trained policy (configs/ptrnet_tsp20_bello.py shows both commands).

    python sweep.py --sweep=configs/sweeps/bello_tables.py

| cities | greedy | sampling | temperature | + Active Search | learning rate | optimum |
|---|---|---|---|---|---|---|
| 20 | 3.89 | 3.82 | 2.0 | 3.82 | 1e-5 | 3.82 |
| 50 | 5.95 | 5.70 | 2.2 | 5.70 | 1e-5 | 5.68 |
| 100 | 8.30 | 7.88 | 1.5 | 7.83 | 1e-6 | 7.77 |

Paper: the columns above. Sampling is the best of 1,280,000 tours; table 4 has 128 to 1,280,000
samples (`"samples"` of the search) for 50 and 100 cities: 5.80, 5.75, 5.73, 5.71 and 5.70; 8.09,
8.00, 7.95, 7.91 and 7.88. Active Search has 10,000 steps of 128 tours, and from scratch
(`"pretrained": False`) 100,000 steps, 200,000 for 100 cities: 3.96, 5.87 and 8.19. The column
greedy@16, of 16 policies, is not available.

Sized for the paper: one GPU per run; not run to its end here.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

# Greedy tour length and learning rate by number of cities.
SIZES = {20: (3.89, 1e-3), 50: (5.95, 1e-3), 100: (8.30, 1e-4)}
METRICS = tuple(f"test/length_n{n}" for n in SIZES)


def runs():
    for n, (length, learning_rate) in SIZES.items():
        yield Run(
            config="configs/ptrnet_tsp20_bello.py",
            labels={"cities": n},
            overrides={
                "data.sizes": (n, n),
                "evaluation.sizes": (n,),
                "train.best": f"dev/gap_n{n}",
                "optimizer.learning_rate": learning_rate,
            },
            paper={f"test/length_n{n}": length},
        )


figure = partial(metric_bars, metrics=METRICS)
