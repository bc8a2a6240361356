"""Duan et al. 2016, "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning"."""

ROWS = {
    "table 1": {
        "n = 10, k = 5, references": {
            "test/reward_greedy": 6.6,
            "test/reward_epsilon_greedy": 6.6,
            "test/reward_thompson": 5.7,
            "test/reward_ucb1": 6.7,
        },
    },
}
