"""Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning".

Sampling, Active Search and greedy@16 (the shortest of the greedy tours of 16 policies) are
evaluations of the runs. The docstrings of `configs/ptrnet_tsp20_bello.py` and
`configs/sweeps/bello_tables.py` have the commands.
"""

# Tour lengths by number of cities.
SEARCHES = {
    "greedy": ("test", {20: 3.89, 50: 5.95, 100: 8.30}),
    "greedy@16": ("greedy_16", {50: 5.80, 100: 7.97}),
    "sampling": ("sampling", {20: 3.82, 50: 5.70, 100: 7.88}),
    "RL pretraining and Active Search": ("active_search", {20: 3.82, 50: 5.70, 100: 7.83}),
    "Active Search": ("active_search_from_scratch", {20: 3.96, 50: 5.87, 100: 8.19}),
}
# Tour lengths by number of samples and of cities, at the paper's temperature.
SAMPLES = {
    128: {50: 5.80, 100: 8.09},
    1_280: {50: 5.75, 100: 8.00},
    12_800: {50: 5.73, 100: 7.95},
    128_000: {50: 5.71, 100: 7.91},
    1_280_000: {50: 5.70, 100: 7.88},
}
ROWS = {
    "table 2": {
        f"TSP{n}, {search}": {f"{prefix}/length_n{n}": length}
        for search, (prefix, lengths) in SEARCHES.items()
        for n, length in lengths.items()
    },
    "table 4": {
        f"TSP{n}, {samples} samples": {f"sampling_{samples}/length_n{n}": length}
        for samples, lengths in SAMPLES.items()
        for n, length in lengths.items()
    },
}


def rows_of(cities: int) -> tuple[str, ...]:
    """Names of the rows that a run reproduces."""
    return tuple(
        f"bello2016/{place}/{row}"
        for place, rows in ROWS.items()
        for row in rows
        if row.startswith(f"TSP{cities},")
    )
