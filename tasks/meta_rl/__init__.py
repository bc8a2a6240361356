"""Meta-reinforcement learning on bandits, tabular MDPs and mazes."""

from tasks.meta_rl.task import MetaRL, build

__all__ = ["MetaRL", "build"]
