"""Meta-reinforcement learning on bandits, tabular MDPs and mazes."""

from typing import Any

from tasks.meta_rl.task import MetaRL, build

__all__ = ["MetaRL", "build", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the rematerialization policy and the decay of the entropy weight.

    Runs of version 0.1.0 do not have them; their entropy weight decays until the last step.
    """
    entropy_steps = config["train"]["steps"]
    return config | {
        "model": {"remat": "none"} | config["model"],
        "ppo": {"entropy_steps": entropy_steps} | config["ppo"],
    }
