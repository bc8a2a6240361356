"""Kool et al. 2019, "Attention, Learn to Solve Routing Problems!"."""

ROWS = {"table 1": {"AM (greedy), n = 20": {"test/length_n20": 3.85, "test/gap_n20": 0.0034}}}
