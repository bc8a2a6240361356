"""The five algorithmic memory tasks of Graves et al. 2014."""

from tasks.memory.task import Memory, build

__all__ = ["Memory", "build"]
