"""Meta-reinforcement learning on bandits, tabular MDPs and mazes."""

from typing import Any

from tasks.meta_rl.task import MetaRL, build

__all__ = ["MetaRL", "build", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the rematerialization policy, which runs of version 0.1.0 did not have."""
    return config | {"model": {"remat": "none"} | config["model"]}
