"""Five algorithmic memory tasks of Graves et al. 2014."""

from typing import Any

from tasks.memory.task import MemoryTask, build

__all__ = ["MemoryTask", "build", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the options of the NTM that runs of version 0.1.0 did not have."""
    absent = dict.fromkeys(("gate_bias", "shift_bias", "erase_bias", "backward_clip"), 0.0)
    return config | {"model": absent | config["model"]}
