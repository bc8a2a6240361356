"""Lake et al. 2019, "The Omniglot challenge: a 3-year progress report".

Errors of the 20 runs of 20-way one-shot classification within alphabets, means over both small
background sets; about 0.30 for the prototypical net.
"""

ROWS: dict[str, dict[str, dict[str, float]]] = {
    "one-shot classification": {"prototypical net, small background sets": {}},
}
