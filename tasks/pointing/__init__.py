"""Combinatorial optimization with pointer networks: TSP, convex hulls, Delaunay triangulations."""

from typing import Any


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add model options, `reinforce.starts` and the search, which earlier runs did not have.

    Runs of version 0.1.0 have a section `decode` with the width of the beam search.
    """
    completed = config | {"model": {"kind": "pointer", "init_limit": 0.0} | config["model"]}
    if "reinforce" in config:
        completed["reinforce"] = {"starts": "first"} | config["reinforce"]
    if "decode" not in config:
        return completed
    search = {"kind": "beam"} | completed.pop("decode")
    return {"search": search} | completed
