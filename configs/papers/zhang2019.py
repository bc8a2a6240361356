"""Zhang et al. 2019, "Self-Attention Generative Adversarial Networks".

The other models of table 2 are those of other papers.
"""

# FID and Inception Score by block and resolution of its maps.
VALUES = {
    ("none", 64): (22.96, 42.87),
    ("self", 8): (22.98, 43.15),
    ("self", 16): (22.14, 45.94),
    ("self", 32): (18.28, 51.43),
    ("self", 64): (18.65, 52.52),
    ("residual", 8): (42.13, 23.17),
    ("residual", 16): (22.40, 44.49),
    ("residual", 32): (27.33, 38.50),
    ("residual", 64): (28.82, 38.96),
}
NAMES = {"none": "no attention", "self": "SAGAN", "residual": "residual block"}


def row_of(block: str, resolution: int) -> str:
    """Name of the row of a block."""
    suffix = "" if block == "none" else f", feat_{resolution}"
    return f"zhang2019/table 1/{NAMES[block]}{suffix}"


ROWS = {
    "table 1": {
        row_of(*key).rpartition("/")[2]: {"test/fid": fid, "test/inception_score": score}
        for key, (fid, score) in VALUES.items()
    },
    "table 2": {
        "SAGAN": {"test/fid": 18.65, "test/inception_score": 52.52, "test/intra_fid": 83.7}
    },
}
