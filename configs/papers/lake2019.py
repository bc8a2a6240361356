"""Lake et al. 2019, "The Omniglot challenge: a 3-year progress report".

Errors of the 20 runs of 20-way one-shot classification within alphabets, means over both small
background sets. The paper says "about 30%".
"""

ROWS = {
    "one-shot classification": {
        "prototypical net, small background sets": {"test/one_shot_error": 0.30}
    },
}
