"""Combinatorial optimization with pointer networks: TSP, convex hulls, Delaunay triangulations."""

from typing import Any


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the model options and the search, which runs of version 0.1.0 did not have.

    Those runs have a section `decode` with the width of the beam search.
    """
    completed = config | {"model": {"kind": "pointer", "init_limit": 0.0} | config["model"]}
    if "decode" not in config:
        return completed
    search = {"kind": "beam"} | completed.pop("decode")
    return {"search": search} | completed
