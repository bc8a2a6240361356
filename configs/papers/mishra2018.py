"""Mishra et al. 2018, "A Simple Neural Attentive Meta-Learner"."""

# (N, K): mean total reward of N pulls of K arms by the Gittins index, a random policy, an LSTM
# (RL²) and SNAIL.
BANDITS = {
    (10, 5): (6.6, 5.0, 6.7, 6.6),
    (10, 10): (6.6, 5.0, 6.7, 6.7),
    (10, 50): (6.5, 5.1, 6.8, 6.7),
    (100, 5): (78.3, 49.9, 78.7, 79.1),
    (100, 10): (82.8, 49.9, 83.5, 83.5),
    (100, 50): (85.2, 49.8, 84.9, 85.1),
    (500, 5): (405.8, 249.8, 401.5, 408.1),
    (500, 10): (437.8, 249.0, 432.5, 432.4),
    (500, 50): (463.7, 249.6, 438.9, 442.6),
    (1000, 50): (944.1, 499.8, 847.43, 889.8),
}
# N: reward of N episodes, normalized by value iteration, of a random policy, an ε-greedy planner,
# PSRL, OPSRL, UCRL2, an LSTM (RL²) and SNAIL.
MDPS = {
    10: (0.482, 0.640, 0.665, 0.694, 0.706, 0.752, 0.766),
    25: (0.482, 0.727, 0.788, 0.819, 0.817, 0.859, 0.862),
    50: (0.481, 0.793, 0.871, 0.897, 0.885, 0.902, 0.908),
    75: (0.482, 0.831, 0.910, 0.931, 0.917, 0.918, 0.930),
    100: (0.481, 0.857, 0.934, 0.951, 0.936, 0.922, 0.941),
}
# Mean steps to the goal in the first and the second episode, by a random policy, an LSTM (RL²) and
# SNAIL. The mazes are three-dimensional, and results in other mazes are not comparable.
MAZES = {
    "small": ((188.6, 187.7), (52.4, 39.1), (50.3, 34.8)),
    "large": ((420.2, 420.8), (180.1, 150.6), (140.5, 105.9)),
}


def _bandit_rows() -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for (pulls, arms), (gittins, random, lstm, snail) in BANDITS.items():
        cell = f"N = {pulls}, K = {arms}"
        rows[f"{cell}, references"] = {"test/reward_gittins": gittins, "test/reward_random": random}
        rows[f"{cell}, RL²"] = {"test/reward": lstm}
        rows[f"{cell}, SNAIL"] = {"test/reward": snail}
    return rows


def _mdp_rows() -> dict[str, dict[str, float]]:
    metric = "test/normalized_discounted"
    planners = ("random", "epsilon_greedy", "psrl", "opsrl", "ucrl2")
    rows: dict[str, dict[str, float]] = {}
    for episodes, (*references, lstm, snail) in MDPS.items():
        names = (f"{metric}_{planner}" for planner in planners)
        rows[f"N = {episodes}, references"] = dict(zip(names, references, strict=True))
        rows[f"N = {episodes}, RL²"] = {metric: lstm}
        rows[f"N = {episodes}, SNAIL"] = {metric: snail}
    return rows


def _maze_rows() -> dict[str, dict[str, float]]:
    return {
        f"{size}, {name}": {f"maze_3d/steps_{n}{suffix}": x for n, x in enumerate(steps, 1)}
        for size, columns in MAZES.items()
        for (name, suffix), steps in zip(
            (("references", "_random"), ("RL²", ""), ("SNAIL", "")), columns, strict=True
        )
    }


# Accuracy with one and with five shots.
FEW_SHOT = {
    "table 1": {"Omniglot, 5-way": (0.9907, 0.9978), "Omniglot, 20-way": (0.9764, 0.9936)},
    "table 2": {"mini-ImageNet, 5-way": (0.5571, 0.6888)},
}


def _few_shot_rows(place: str) -> dict[str, dict[str, float]]:
    return {
        row: {"test/accuracy_1_shot": one, "test/accuracy_5_shot": five}
        for row, (one, five) in FEW_SHOT[place].items()
    }


ROWS = {
    "table 1": _few_shot_rows("table 1"),
    "table 2": _few_shot_rows("table 2"),
    "table 3": _bandit_rows(),
    "table 4": _mdp_rows(),
    "table 5": _maze_rows(),
}
